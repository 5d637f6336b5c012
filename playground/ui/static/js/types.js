/**
 * Types of what crosses the wire: what Python's views yield and what the page hands back. The names
 * of the keys are those of the dicts in answer_view.py and in each tab's view.py.
 */

/** @typedef {"base" | "task" | "instruct"} Role */

/**
 * What Gradio gives a component when it is put into the page.
 * @template Value
 * @typedef {object} Component
 * @property {HTMLElement} element holds the component's static markup
 * @property {{ value: Value | null | "" }} props `value` is what the server sent last; setting it
 *   sends it with the next event
 * @property {(event: string, data?: unknown) => void} trigger calls the server's listener
 * @property {(name: "value", changed: () => void) => void} watch calls when the server sent a value
 */

/**
 * A component's module exports one as `mount`: it returns what paints a value into the component.
 * @template Value
 * @typedef {(component: Component<Value>) => (value: Value) => void} Mount
 */

/**
 * A fact with its name, or a word with its meaning.
 * @typedef {object} NamedText
 * @property {string} name
 * @property {string} text
 */

/**
 * A variant with its title.
 * @typedef {object} TitledRole
 * @property {Role} role
 * @property {string} title
 */

/**
 * A token of a prompt.
 * @typedef {object} SentToken
 * @property {string} text
 * @property {number} id
 * @property {boolean} special whether it stands for no text, as `<bos>` does
 * @property {string} bytes in hex
 * @property {boolean} added whether the base is not sent it
 */

/**
 * What a variant is sent. It crosses the wire as one string: Gradio watches every number of a value.
 * @typedef {object} SentPrompt
 * @property {number} count of tokens; 0 where a server does not tell them
 * @property {SentToken[]} tokens
 * @property {string} text
 * @property {string[]} stops texts that end the answer
 * @property {string} digest of the token ids
 * @property {string} sources the files that tokenizer, chat template and ends of text came from
 */

/**
 * One line of text.
 * @typedef {object} StatusLine
 * @property {string} kind "busy", "done", "error", "ready", "notice", or empty
 * @property {string} text
 */

/**
 * What to notice about an example, and the fields of its prompt.
 * @typedef {StatusLine & { of?: Record<string, unknown> }} Notice
 */

/**
 * One column of Compare.
 * @typedef {object} Pane
 * @property {string} state "idle", "queued", "reading", "writing", or why the answer ended
 * @property {string} text
 * @property {string} meta
 * @property {string} error
 * @property {string} reasoning what a server sent apart from the answer
 * @property {string} notes what is to be known of how a server was asked or answered
 * @property {string} same which other variants have the same weights
 * @property {string | null} sent a `SentPrompt` as JSON
 * @property {NamedText[] | null} weights
 */

/**
 * Something odd about a prompt.
 * @typedef {object} Finding
 * @property {"error" | "warning"} level
 * @property {string} text
 * @property {string} cure
 * @property {string} who the variants that it is about
 */

/**
 * What is about to be sent to one variant.
 * @typedef {object} LedgerColumn
 * @property {Role} role
 * @property {string} title
 * @property {string} sent a `SentPrompt` as JSON
 */

/**
 * What is about to be sent.
 * @typedef {object} Ledger
 * @property {LedgerColumn[]} columns
 * @property {Finding[]} findings
 * @property {string} settings those in force, in a line
 */

/** @typedef {[input: string, output: string]} Demonstration a pair, as it is in links and the API */

/** @typedef {Record<string, unknown>} PromptFields values of Compare's fields, by their names */

/**
 * An answer in the grid.
 * @typedef {object} GridCell
 * @property {Role} role
 * @property {string} title
 * @property {string} text
 * @property {string} badge what became of the prompt, once the answer has ended
 * @property {string} kind of badge
 * @property {string} meta
 * @property {string} error
 * @property {string} reasoning what a server sent apart from the answer
 * @property {string} notes what is to be known of how a server was asked or answered
 */

/**
 * The answers to one prompt form.
 * @typedef {object} GridRow
 * @property {string} form
 * @property {string} lesson
 * @property {PromptFields} fields
 * @property {GridCell[]} cells
 */

/**
 * Nine answers.
 * @typedef {object} Grid
 * @property {GridRow[]} rows
 * @property {TitledRole[]} roles
 * @property {NamedText[]} legend
 */

/**
 * Tokens of a text in columns of equal length: as objects they would double what is sent.
 * @typedef {object} LensTokens
 * @property {string[]} text
 * @property {number[]} id `UNKNOWN_ID` where a server tells the text alone
 * @property {boolean[]} special
 * @property {(number | null)[]} loss in nats; null where nothing comes before, or it is not told
 * @property {(number | null)[]} rank 1 was the likeliest
 * @property {(number | null)[]} p_gain probability above the base's
 * @property {(number | null)[]} rank_gain places above the base's, both ranks clamped
 */

/**
 * The likeliest tokens after each token, in columns: `p[n][k]` is the probability of the k-th
 * likeliest after token n.
 * @typedef {object} LensNext
 * @property {string[][]} text
 * @property {number[][]} id
 * @property {number[][]} p of the model
 * @property {number[][]} sampled probability that the sampler leaves
 * @property {number[]} outside probability of all other tokens together
 */

/**
 * A token that may come next.
 * @typedef {object} LikelyToken
 * @property {string} text
 * @property {number} id
 * @property {number} p
 * @property {number} sampled
 */

/**
 * Losses of some tokens together.
 * @typedef {object} LossSummary
 * @property {string} name
 * @property {number} tokens
 * @property {number} loss in nats, of all together
 * @property {number} loss_per_token
 * @property {number} perplexity
 * @property {number | null} bits_per_byte null where the tokens are no text
 */

/**
 * One variant's reading of a text.
 * @typedef {object} LensVariant
 * @property {Role} role
 * @property {string} title
 * @property {number} prompt_tokens
 * @property {LensTokens} tokens
 * @property {LensNext} next
 * @property {LossSummary[]} sums
 * @property {number | null} parts_at first token of the answer that it would not have said
 * @property {string} says what it would have said there
 */

/**
 * Loss of a word after the text.
 * @typedef {object} WordCost
 * @property {Role} role
 * @property {string} title
 * @property {number} loss in nats
 * @property {number} tokens
 */

/**
 * All readings of a text.
 * @typedef {object} Lens
 * @property {LensVariant[]} variants
 * @property {WordCost[]} cost of `word`
 * @property {string} word
 * @property {string} answer_of title of the variant whose answer is read, or empty
 * @property {string} format
 * @property {string} text
 * @property {number} run tells one reading from the next
 */

/**
 * What the variants are asked to go on from.
 * @typedef {object} ForkRequest
 * @property {number[]} ids
 * @property {number} id
 * @property {string} instead
 * @property {string} text
 * @property {string} format
 */

/**
 * How one variant went on.
 * @typedef {object} ForkColumn
 * @property {Role} role
 * @property {string} title
 * @property {string} text
 * @property {string} meta
 * @property {string} error
 */

/**
 * How the variants went on from one beginning.
 * @typedef {object} Fork
 * @property {number} run tells one fork from the next
 * @property {string} title
 * @property {string} begun
 * @property {ForkColumn[]} columns
 */

/**
 * What 4 bits change of a variant.
 * @typedef {object} Rounding
 * @property {Role} role
 * @property {string} title
 * @property {number} kl divergence by rounding, in nats a token
 * @property {number | null} tuning divergence by tuning; null for the base
 * @property {number} same share of tokens whose likeliest successor stays
 * @property {number | null} parts token where the two answers part
 * @property {string} text
 * @property {string} whole answer of the unquantised weights
 */

/**
 * A score with its interval; shares from 0 to 1.
 * @typedef {object} Score
 * @property {number} value
 * @property {number} low
 * @property {number} high
 */

/** @typedef {Partial<Record<Role, Score>>} Scores */

/**
 * Scores of one task in one form, by the way to score and by variant.
 * @typedef {object} EvaluationRow
 * @property {string} task
 * @property {string} title
 * @property {boolean | null} held_out null for a visitor's own set
 * @property {string} form
 * @property {number} n items
 * @property {Record<string, Scores>} scores
 */

/**
 * A way to score.
 * @typedef {object} Scoring
 * @property {string} name
 * @property {string} title
 * @property {string} explains
 */

/**
 * Two variants on the same items.
 * @typedef {object} PairedDifference
 * @property {string} scoring
 * @property {string} title of the task
 * @property {string} form
 * @property {string} ours_title
 * @property {string} theirs_title
 * @property {number} value
 * @property {number} low
 * @property {number} high
 * @property {number | null} p of McNemar's test
 */

/**
 * An item that one variant alone got right.
 * @typedef {object} OnlyRight
 * @property {Role} role
 * @property {string} title
 * @property {string} task
 * @property {string} form
 * @property {string} input
 * @property {string} gold
 * @property {PromptFields} fields
 */

/**
 * An evaluation, as far as it has come.
 * @typedef {object} Evaluation
 * @property {EvaluationRow[]} rows
 * @property {TitledRole[]} roles
 * @property {Scoring[]} scorings
 * @property {PairedDifference[]} pairs
 * @property {OnlyRight[]} only
 * @property {string} record the whole as JSON, or empty
 */

/**
 * A row of training data: the loss is taken on the tokens from `first` on.
 * @typedef {object} TrainingRow
 * @property {string[]} tokens
 * @property {number} first
 */

/**
 * One passage as a variant's kind of training would have it.
 * @typedef {object} TrainingPassage
 * @property {Role} role
 * @property {string} title
 * @property {string} explains
 * @property {string[]} tokens
 * @property {number} first
 */

/**
 * What made a variant.
 * @typedef {object} TrainedVariant
 * @property {Role} role
 * @property {string} title
 * @property {NamedText[]} facts
 * @property {number[]} curve training loss in nats per label
 * @property {number} steps
 * @property {TrainingRow[]} examples
 * @property {string[]} sources
 */

/**
 * How the variants were trained.
 * @typedef {object} Training
 * @property {TrainingPassage[]} rows
 * @property {TrainedVariant[]} made
 */

export {};
