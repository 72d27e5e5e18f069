/* The questions of a chapter. They unfold without this; here an opened answer is also read aloud, and a solved question gets its mark. */
for (const quiz of document.querySelectorAll("section.quiz")) {
  const said = document.createElement("p");
  said.setAttribute("role", "status");
  said.className = "spoken";
  quiz.append(said);
  for (const question of quiz.querySelectorAll("fieldset")) {
    question.addEventListener("toggle", event => {
      if (!event.target.open) return;
      said.textContent = event.target.querySelector("p").textContent;
      event.target.dataset.seen = "";
      const found = question.querySelectorAll("details.holds[data-seen]").length;
      question.classList.toggle("solved", found === Number(question.dataset.right));
    }, true);
  }
}
