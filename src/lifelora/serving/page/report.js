// The run's report, fetched with the key of this tab and shown in a frame where no script runs.
import { report } from "./calls.js";

try {
  document.getElementById("report").srcdoc = await report();
} catch (error) {
  const problem = document.getElementById("problem");
  problem.textContent = error.message;
  problem.hidden = false;
}
