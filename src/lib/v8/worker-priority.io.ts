/** Lets the thread that answers clients run before V8's own threads, which collect garbage and compile, where all of them need the same core. */
import { readdirSync, readFileSync } from "node:fs";
import { setPriority } from "node:os";

const THREADS = "/proc/self/task";
/** The name that Node gives to each of V8's threads. */
const NAME = "V8Worker";
/** A thread with this niceness gets a tenth of the time of a thread with niceness 0 on the same core (sched(7)). */
const NICENESS = 10;

/**
 * Lowers the priority of V8's threads. Without this, marking uses four fifths of a single core for 0.1 s, several times a minute, and all answers
 * wait. Linux sets the priority of one thread (setpriority(2), "C library/kernel differences"). Does nothing on other systems.
 */
export function lowerWorkerPriority(): void {
  try {
    for (const thread of readdirSync(THREADS))
      if (readFileSync(`${THREADS}/${thread}/comm`, "latin1").trim() === NAME) setPriority(Number(thread), NICENESS);
  } catch {
    // There is no such folder, or a sandbox forbids it. V8's threads then keep their priority.
  }
}
