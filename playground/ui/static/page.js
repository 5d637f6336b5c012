() => {
  // Each tab has its own two buttons; those of the tabs that are not open are not laid out.
  const click = (...ids) => ids.map((id) => document.querySelector(`button#${id}`)).find((button) => button?.offsetParent)?.click();
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      // A field hands its value over when it loses the focus.
      const field = document.activeElement;
      field?.blur?.();
      field?.focus?.();
      setTimeout(() => click("compare", "grid-run", "lens-run", "evaluate-run"), 50);
    }
    if (event.key === "Escape") document.querySelectorAll(".trio-choice[open]").forEach((menu) => (menu.open = false));
    if (event.key === "Escape") click("stop", "grid-stop", "lens-stop", "evaluate-stop");
  });
  const wanted = new URLSearchParams(location.search).get("__theme") ?? localStorage.getItem("triptych-theme");
  if (wanted === "dark" || wanted === "light") document.body.classList.toggle("dark", wanted === "dark");
  const label = () => {
    const dark = document.body.classList.contains("dark");
    document.querySelectorAll(".theme-toggle").forEach((button) => (button.textContent = dark ? "light" : "dark"));
  };
  document.addEventListener("click", (event) => {
    if (!event.target.closest?.(".theme-toggle")) return;
    const dark = document.body.classList.toggle("dark");
    localStorage.setItem("triptych-theme", dark ? "dark" : "light");
    label();
  });
  // Another trio is another page: leaving this one stops what it runs. The theme goes along.
  document.querySelectorAll(".trio-choice a").forEach((link) => (link.search = location.search));
  document.addEventListener("click", (event) => {
    document.querySelectorAll(".trio-choice[open]").forEach((menu) => menu.contains(event.target) || (menu.open = false));
  });
  label();
  document.documentElement.lang = "en";
}
