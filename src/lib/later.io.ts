/** A timer that has no longest delay. */
import { MAX_TIMER_MS } from "./duration.ts";

/** Runs `act` after so many ms, unless the function that it returns is called before. What is later than any timer of Node never runs. */
export function later(act: () => void, delayMs: number): () => void {
  if (delayMs > MAX_TIMER_MS) return () => {};
  const timer = setTimeout(act, delayMs);
  return () => clearTimeout(timer);
}
