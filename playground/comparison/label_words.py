"""Words around a label, in the languages known here: pieces of regular expressions."""

from __future__ import annotations

COPULA = (
    r"(?:is|was|be|been|are|would\s+be|est|ist|sind|wäre|lautet|es|é(?:\sa)?|è|е|är|er|jest|je|este|είναι"
    r"|là|adalah|ialah|คือ|هو|هي|היא|הוא|это|是|为|為|は)"
)
"""Forms of "to be"; what they join to a name of the answer is the answer."""
NAMES = (
    r"(?:answer|ans|label|rating|score|grade|verdict|respuesta|réponse|antwort|resposta|risposta"
    r"|odpowiedź(?:\sto)?|odpověď|svar(?:et)?|antwoord|vastaus(?:\son)?|válasz|cevap|उत्तर"
    r"|răspuns(?:ul)?|απάντηση|jawaban(?:nya)?|đáp\s+án|ответ|ответом|คำตอบ"
    r"|الإجابة|الجواب|התשובה|תשובה|پاسخ|答案|答えは?|正解は?|评分|評価|정답[은는]?|답[은는]?|평점|별점)"
)
"""Names of the answer: what stands beside one counts before any label elsewhere."""
SUBJECTS = (
    r"(?:sentiment|class|category|topic|polarity|emotion|intent|stance|language|relation(?:ship)?"
    r"|type|classification|prediction|conclusion|judge?ment|result|overall|stimmung|kategorie"
    r"|sentimiento|categoría|sentimento|categoria|catégorie|категория|тональность|情感|类别|感情)"
)
"""Names of what is asked: the same, where a copula or a colon joins the label to one."""
CHOOSING = (
    r"(?:choose|chosen?|pick(?:ed)?|select(?:ed)?|go(?:ing)?\s(?:with|for)"
    r"|(?:rate|give)\s(?:it|this|that)|elijo|escojo|escolho|choisis|scelgo|wähle|выбираю|选[择项]?)"
)
CUE = (
    rf"(?:{NAMES}|{CHOOSING}|option|choice|letter|class|category|group|statement|response|solution"
    r"|opción|opção|opzione|alternativa|lettre|letra|lettera|buchstabe|вариант|選択肢?)"
)
"""Words directly before a single letter that make it an answer."""
SAYING = (
    r"(?:say|think|guess|believe|prefer|vote|with|for|get|gives?|means?|leav(?:es?|ing)|have|ends?\s+in"
    r"|so|hence|thus|therefore|then|but|maybe|perhaps|probably|definitely|certainly|clearly|elijo"
    r"|escojo|escolho|choisis|dirais|donc|scelgo|quindi|nehme|wähle|würde|also|выбираю)"
)
"""Words before a single letter at a clause's end that make it an answer; "vitamin C" has none."""
ADVERBS = r"(?:(?:(?:most|very|quite|rather|actually|(?!only)\p{L}+ly)\s){1,2})"
ARTICLE = r"(?:\s+(?:la|le|el|die|the)\b)?"
REASON = r"(?:because|since|as|weil|da|parce|car|porque|perché|потому|因为)"
RIGHT = (
    r"(?:(?:is|was|seems|must\s+be|would\s+be)\s+(?:the\s+)?(?:right|correct|true|best|answer)\b)"
)
OR = (
    r"(?:\b(?:or|vs\.?|versus|oder|ou|o|u|eller|lub|albo|czy|или|або|чи|ή|sau|nebo|tai|vai|vagy"
    r"|veya|yoksa|hay|hoặc|atau|أو|או|या)\b|还是|或者?|還是|それとも|または|もしくは|또는|혹은|หรือ)"
)
"""The word "or": labels that it joins are a choice, and no answer."""
OPEN, CLOSE = r"[(\[{<\"“„«'*`「『]", r"[)\]}>\"”“»'*`」』]"
