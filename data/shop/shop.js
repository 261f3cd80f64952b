// The shop's own script: a link of the page opens the chat. Calls made before the widget is there wait for it.

window.Frontdesk =
  window.Frontdesk ||
  function () {
    (window.Frontdesk.q = window.Frontdesk.q || []).push(arguments);
  };

document.getElementById("ask").addEventListener("click", () => window.Frontdesk("open"));
