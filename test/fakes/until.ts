/** Waiting for a condition: with patience, and with words for when it does not come. */

/** Long enough for what a machine does late because others use it too: what comes is not waited for longer, and what does not come costs this once. */
export const PATIENCE_MS = 60_000;
/** How often one looks: at what is at hand, and at what has to be asked for. */
const LOOK_MS = 5;
const ASK_MS = 50;

/** True, or nothing that is wrong: it is so. */
type Seen = boolean | readonly string[];

/** Waits until it is so; fails with what was seen last. A look that throws saw that it is not so yet. */
export async function until(what: string, look: () => Seen | Promise<Seen>, withinMs = PATIENCE_MS): Promise<void> {
  const endMonoMs = performance.now() + withinMs;
  for (;;) {
    const { wrong, isAsked, cause } = await looked(look);
    if (wrong.length === 0) return;
    if (performance.now() > endMonoMs) throw new Error(`did not happen within ${withinMs} ms: ${what}${saying(wrong)}`, { cause });
    await new Promise<void>((resolve) => setTimeout(resolve, isAsked ? ASK_MS : LOOK_MS));
  }
}

interface Look {
  readonly wrong: readonly string[];
  readonly isAsked: boolean;
  readonly cause?: unknown;
}

async function looked(look: () => Seen | Promise<Seen>): Promise<Look> {
  let isAsked = false;
  try {
    const answer = look();
    isAsked = answer instanceof Promise;
    const seen = await answer;
    if (typeof seen !== "boolean") return { wrong: seen, isAsked };
    return { wrong: seen ? [] : [""], isAsked };
  } catch (cause) {
    return { wrong: [String(cause)], isAsked, cause };
  }
}

function saying(wrong: readonly string[]): string {
  const said = wrong.filter((each) => each !== "").slice(0, 10);
  return said.length === 0 ? "" : `; last seen: ${said.join("; ")}`;
}
