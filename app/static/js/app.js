// Behaviours of our components, on both surfaces. Everything listens on the document, so that parts that htmx brings later work too,
// and every page works without them: they save a step, they are never the only way.
import "./copy.js";
import "./files.js";
import "./forms.js";
import "./keyboard.js";
import "./money.js";
import "./opening.js";
import "./toasts.js";
