/**
 * Calls of other tenants, in a process of its own: `_flood-child.ts HOST PORT TOKEN,TOKEN,…`, with a connection for each token. Its parent
 * says which of them send and how many calls a second together, and then `pause`; at each pause, when all is answered, it says how many
 * were let through and refused.
 */

import { Wire } from "./_wire.ts";
import { exactQuery, PATH } from "./_work.ts";

/** What the parent says: the connections from `from` up to `to` send this many calls a second together. */
export interface Sending {
  readonly from: number;
  readonly to: number;
  readonly perSecond: number;
}

/** What it is told at each pause. */
export interface Counts {
  readonly ok: number;
  readonly refused: number;
}

const [host = "", port = "", tokens = ""] = process.argv.slice(2);
const wires = await Promise.all(tokens.split(",").map((token) => Wire.open({ host, port: Number(port) }, { token })));
const message = exactQuery(1);
const TICK_MS = 1;
/** Open calls on one connection at most: a node takes 128, and ends a connection that opens more. What is due meanwhile is not sent. */
const MAX_OPEN = 100;
const openOn = wires.map(() => 0);
let counts = { ok: 0, refused: 0 };
let sending: Sending | undefined;
let beganMs = 0;
let sent = 0;
let open = 0;
let isPausing = false;

function call({ from, to }: Sending): void {
  const at = from + (sent++ % (to - from));
  const wire = wires[at];
  if (wire === undefined || (openOn[at] ?? 0) >= MAX_OPEN) return;
  if (wire.isClosed) throw new Error("the node closed a connection");
  open += 1;
  openOn[at] = (openOn[at] ?? 0) + 1;
  let isOk = false;
  const stream = wire.stream(PATH.query, {
    onMessage: () => {
      isOk = true;
    },
    onEnd: () => {
      open -= 1;
      openOn[at] = (openOn[at] ?? 0) - 1;
      counts[isOk ? "ok" : "refused"] += 1;
      tellWhenAnswered();
    },
  });
  stream.send(message);
  stream.end();
}

function tellWhenAnswered(): void {
  if (!isPausing || open > 0) return;
  isPausing = false;
  process.send?.(counts);
  counts = { ok: 0, refused: 0 };
}

setInterval(() => {
  if (sending === undefined) return;
  const due = ((performance.now() - beganMs) * sending.perSecond) / 1000;
  // What a busy machine kept it from sending is not sent later, all at once: the calls are to be even.
  sent = Math.max(sent, Math.floor(due - (5 * TICK_MS * sending.perSecond) / 1000));
  while (sent < due) call(sending);
}, TICK_MS);

process.on("message", (order: Sending | "pause") => {
  [sent, beganMs] = [0, performance.now()];
  isPausing = order === "pause";
  sending = order === "pause" ? undefined : order;
  tellWhenAnswered();
});
process.on("disconnect", () => process.exit());
