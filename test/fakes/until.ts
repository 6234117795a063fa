/** Long enough for what a machine does late because others use it too: what comes is not waited for longer, and what does not come costs this once. */
const PATIENCE_MS = 30_000;

/** Waiting for a condition, with a deadline and words for when it does not come. */
export async function until(what: string, isTrue: () => boolean, deadlineMs = PATIENCE_MS): Promise<void> {
  const end = performance.now() + deadlineMs;
  while (!isTrue()) {
    if (performance.now() > end) throw new Error(`did not happen within ${deadlineMs} ms: ${what}`);
    await new Promise<void>((resolve) => setTimeout(resolve, 5));
  }
}
