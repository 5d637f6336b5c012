(names, [notice, ...values]) => {
  // What to notice is said of an example's prompt, and of no other. To type is no `input` to Gradio
  // where it is pasted: so the fields are compared.
  const of = notice.of ?? {};
  const as = names.every((name, n) => !(name in of) || JSON.stringify(of[name]) === JSON.stringify(values[n]));
  return as ? notice : { kind: "", text: "" };
}
