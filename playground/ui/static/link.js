(names, usual, values) => {
  // The fields become a link that opens the page with them. What is as usual is not named, nor
  // what the form has no place for. What else the address names (a theme, what hosts add) stays.
  const fields = Object.fromEntries(names.map((name, n) => [name, values[n]]));
  const laid = fields.form !== "instruction";
  const fits = { input_label: laid, cue: laid, instruction: fields.form !== "zero-shot" };
  const link = new URL(location.href);
  link.hash = "";
  for (const name of [...Object.keys(usual), "example_input", "example_output"]) link.searchParams.delete(name);
  for (const name of Object.keys(usual))
    if (fields[name] !== usual[name] && (fits[name] ?? true)) link.searchParams.append(name, fields[name] ?? "");
  if (fields.form === "few-shot")
    for (const [input, output] of fields.table.filter((row) => row.some((cell) => cell.trim())).slice(0, fields.shots)) {
      link.searchParams.append("example_input", input);
      link.searchParams.append("example_output", output);
    }
  history.replaceState(history.state, "", link);
  const say = (text) => ({ kind: "done", text });
  // A frame, or a page without https, has no leave to write to the clipboard.
  const shown = () => say(`The link to this prompt: ${link.href}`);
  return navigator.clipboard?.writeText(link.href).then(() => say("The link to this prompt is copied."), shown) ?? shown();
}
