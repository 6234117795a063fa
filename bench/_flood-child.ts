/**
 * A flood in a process of its own: `_flood-child.ts HOST PORT TOKEN CALLS_PER_SECOND`. Its parent says `go` and `pause`; at
 * each pause, when all is answered, it says how many were let through and refused.
 */

import { Wire } from "./_wire.ts";
import { exactQuery, PATH } from "./_work.ts";

const [host = "", port = "", token = "", perSecond = "0"] = process.argv.slice(2);
const wires = await Promise.all([1, 2, 3, 4].map(() => Wire.open({ host, port: Number(port) }, { token })));
const message = exactQuery(1);
const TICK_MS = 1;
let counts = { ok: 0, refused: 0 };
let began: number | undefined;
let sent = 0;
let open = 0;
let isPausing = false;

function call(): void {
  const wire = wires[sent++ % wires.length];
  if (wire === undefined) return;
  open += 1;
  let isOk = false;
  const stream = wire.stream(PATH.query, {
    onMessage: () => {
      isOk = true;
    },
    onEnd: () => {
      open -= 1;
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
  if (began === undefined) return;
  const due = ((performance.now() - began) * Number(perSecond)) / 1000;
  // What a busy machine kept it from sending is not sent later, all at once: the flood is to be even.
  sent = Math.max(sent, Math.floor(due - (5 * TICK_MS * Number(perSecond)) / 1000));
  while (sent < due) call();
}, TICK_MS);

process.on("message", (order) => {
  sent = 0;
  began = order === "go" ? performance.now() : undefined;
  isPausing = order === "pause";
  tellWhenAnswered();
});
process.on("disconnect", () => process.exit());
