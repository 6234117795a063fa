/**
 * Takes as much of a core as it is told: `_busy-child.ts CORES`, 0 to 1. It works in short turns at random times, as a server does that many talk to:
 * 20 ms from one turn to the next in the mean, each until it has used its part of the time so far, but for at most 20 ms. It says `ready` first.
 */
const CORES = Number(process.argv[2] ?? 0);
const MEAN_MS = 20;
/** Then it looks whether it is to end: where others use the core, it never comes to its part. */
const MOST_MS = 20;

const startMs = performance.now();
const before = process.cpuUsage();

function isBehind(): boolean {
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000 < CORES * (performance.now() - startMs);
}

function turn(): void {
  const endMs = performance.now() + MOST_MS;
  while (isBehind() && performance.now() < endMs);
  if (isBehind()) setImmediate(turn);
  else setTimeout(turn, -Math.log(1 - Math.random()) * MEAN_MS);
}

process.on("disconnect", () => process.exit());
turn();
process.send?.("ready");
