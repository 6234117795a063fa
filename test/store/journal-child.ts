/**
 * A process that writes to a journal and says on stdout what was answered, to be killed or hindered by the tests:
 * `node journal-child.ts DIRECTORY BATCHES ROWS_A_BATCH PAUSE_MS`. Each line is one JSON object.
 */
import { setTimeout as pause } from "node:timers/promises";
import { batch, openAndReplay, put } from "./journal-fixture.ts";

const [directory = "", batches = "0", rowsABatch = "1", pauseMs = "0"] = process.argv.slice(2);

function say(line: object): void {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

/** Longest time the event loop did not come round. */
let maxGapMs = 0;
let lastTurnMs = performance.now();
const turns = setInterval(() => {
  maxGapMs = Math.max(maxGapMs, performance.now() - lastTurnMs);
  lastTurnMs = performance.now();
}, 5);

const { journal } = await openAndReplay(directory);
say({ ready: true, lastSeq: journal.restored.lastSeq });
maxGapMs = 0;
let seq = journal.restored.lastSeq;
for (let i = 0; i < Number(batches); i++) {
  const puts = Array.from({ length: Number(rowsABatch) }, () => put(`k${++seq}`, seq));
  const startMs = performance.now();
  try {
    await journal.write(batch({ puts }));
    say({ acked: puts.map((one) => one.seq), ms: performance.now() - startMs });
  } catch (error) {
    say({ refused: puts.map((one) => one.seq), error: String(error) });
  }
  if (Number(pauseMs) > 0) await pause(Number(pauseMs));
}
clearInterval(turns);
say({ done: true, maxGapMs, stats: journal.stats() });
// Not process.exit, which lets SQLite tidy up: the tests look at what a crash leaves.
process.kill(process.pid, "SIGKILL");
