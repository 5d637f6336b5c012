// Paints one line of text with a kind; textContent alone.
const paint = () => {
  const line = element.querySelector(".line");
  line.dataset.kind = props.value?.kind ?? "";
  if (line.textContent !== (props.value?.text ?? "")) line.textContent = props.value?.text ?? "";
};
watch("value", paint);
paint();
