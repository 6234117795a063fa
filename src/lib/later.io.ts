/** A timer for any delay: Node's own takes delays from 0 to 24 days. */
import { MAX_TIMER_MS } from "./duration.ts";

/**
 * Runs `act` after `delayMs`, or as soon as possible when that is negative, because its time is over. A delay longer than the timers of Node
 * never ends. The function that is returned cancels it.
 */
export function later(act: () => void, delayMs: number): () => void {
  if (delayMs > MAX_TIMER_MS) return () => {};
  const timer = setTimeout(act, Math.max(0, delayMs));
  return () => clearTimeout(timer);
}
