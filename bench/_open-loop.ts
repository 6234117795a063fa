/** Requests at a fixed rate whatever the answers do, so that a stall shows in every request it delayed. */
import type { Running } from "./_processes.ts";
import { Wire } from "./_wire.ts";

export interface OpenLoopOptions {
  readonly message: Uint8Array;
  readonly perSecond: number;
  readonly seconds: number;
  readonly connections: number;
}

/** Open calls on one connection at most: a node takes 128, and ends a connection that opens more. What is due meanwhile waits, and its wait counts. */
const MAX_OPEN = 100;

/** Latency of each request in ms, from when it was due to when its answer was read. */
export async function openLoop(server: Running, path: string, options: OpenLoopOptions): Promise<readonly number[]> {
  const { message, perSecond, seconds, connections } = options;
  const wires = await Promise.all(Array.from({ length: connections }, () => Wire.open(server.grpc)));
  const count = Math.round(perSecond * seconds);
  const tookMs: number[] = [];
  const startMs = performance.now();
  await new Promise<void>((resolve, reject) => {
    let sent = 0;
    const openOn = wires.map(() => 0);
    const turn = () => {
      const dueCount = Math.min(count, Math.floor(((performance.now() - startMs) / 1000) * perSecond));
      for (; sent < dueCount; sent++) {
        const at = sent % connections;
        if ((openOn[at] ?? 0) >= MAX_OPEN) break;
        openOn[at] = (openOn[at] ?? 0) + 1;
        const dueMs = startMs + (sent / perSecond) * 1000;
        const answered = () => {
          openOn[at] = (openOn[at] ?? 0) - 1;
          if (tookMs.push(performance.now() - dueMs) === count) resolve();
        };
        wires[at]?.unary(path, message).then(answered, reject);
      }
      // Not a timer: it would add its own millisecond to every latency.
      if (sent < count) setImmediate(turn);
    };
    turn();
  });
  for (const wire of wires) wire.close();
  return tookMs;
}
