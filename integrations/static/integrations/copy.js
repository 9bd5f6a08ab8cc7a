// Copy buttons: <button type="button" data-copy="id"> copies the text of the element with that id.
document.addEventListener("click", async (event) => {
    const button = event.target.closest("button[data-copy]");
    if (!button) return;
    const source = document.getElementById(button.dataset.copy);
    try {
        await navigator.clipboard.writeText(source.textContent);
        button.textContent = "Copied";
    } catch {
        // Plain http, or no permission: select it, so that a key press copies it.
        window.getSelection().selectAllChildren(source);
        button.textContent = "Selected";
    }
});
