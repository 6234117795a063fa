/** What `/healthz` of a node with read workers says of its main thread: it is alive while it makes a copy, and after 30 s of silence it hangs. */
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { expect, test } from "vitest";
import { loadConfig } from "../../src/config/load.ts";
import { openLog } from "../../src/lib/log.io.ts";
import { startNode } from "../../src/node/node.io.ts";
import { hang, onReadWorker } from "../fakes/hung-worker.ts";
import { until } from "../fakes/until.ts";

/** More than the silence that a worker allows. */
const LONGER_MS = 33_000;
const ALLOWED_MS = 30_000;

const PORTS = ["listen.grpc_port", "listen.http_port", "dns.udp_port", "fabric.port"].map((name) => [name, "0"] as const);

/** The threads of read worker 1, the newest last. From the second on none hears anything: its copy is being made until the test is over. */
const firsts: Worker[] = [];
onReadWorker((thread, name) => {
  if (name !== "reads 1") return;
  firsts.push(thread);
  if (firsts.length > 1) hang(thread);
});

/** Asks from a thread of its own, since the main thread of the node is this one. */
const ASKER = `const { parentPort, workerData: { http, held, longerMs } } = require("node:worker_threads");
  const look = async () => (await fetch("http://" + http + "/healthz", { headers: { connection: "close" } })).status;
  const looks = async (isOver) => {
    const beganMs = performance.now();
    for (;;) {
      const status = await look();
      const tookMs = performance.now() - beganMs;
      if (isOver(status, tookMs)) return { status, tookMs };
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  };
  parentPort.once("message", async () => {
    const made = await looks((status, tookMs) => status !== 200 || tookMs > longerMs);
    Atomics.store(held, 0, 1);
    parentPort.postMessage("hold");
    if (Atomics.wait(held, 0, 1, longerMs) === "timed-out") throw new Error("the main thread does not wait");
    const silent = await looks((status, tookMs) => status !== 200 || tookMs > 2 * longerMs);
    Atomics.store(held, 0, 3);
    Atomics.notify(held, 0);
    const back = await looks((status, tookMs) => status === 200 || tookMs > longerMs);
    parentPort.postMessage({ made, silent, back });
  });`;

test("/healthz is 200 for as long as a copy is made, 503 when the main thread was silent for 30 s, and 200 when it speaks again", async () => {
  const flags = new Map<string, string>([["persistence.ephemeral", "true"], ["node.workers", "2"], ["node.stop_timeout", "1s"], ...PORTS]);
  const loaded = loadConfig({ env: {}, flags });
  if (!loaded.ok) throw new Error(JSON.stringify(loaded.problems));
  const said: string[] = [];
  const write = (line: string) => void said.push((JSON.parse(line) as { readonly msg: string }).msg);
  const log = openLog({ level: "info", scopes: new Map(), format: "json", write });
  const node = await startNode({ settings: loaded.effective.settings, log, version: "test" });
  try {
    await firsts[0]?.terminate();
    await until("its copy is made anew", () => firsts.length > 1);
    const held = new Int32Array(new SharedArrayBuffer(4));
    const asker = new Worker(ASKER, { eval: true, workerData: { http: node.listeners["http"], held, longerMs: LONGER_MS } });
    try {
      // oxlint-disable-next-line unicorn/require-post-message-target-origin -- it is a thread, not a window
      asker.postMessage("go");
      await once(asker, "message");
      // Or no copy was being made, and there was nothing to look at.
      expect(said).not.toContain("read worker restarted");
      Atomics.store(held, 0, 2);
      Atomics.notify(held, 0);
      // Nothing happens in this thread until the asker has its answer.
      expect(Atomics.wait(held, 0, 2, 3 * LONGER_MS)).not.toBe("timed-out");
      const [{ made, silent, back }] = (await once(asker, "message")) as [Record<string, { status: number; tookMs: number }>];
      expect(made).toMatchObject({ status: 200 });
      // It had spoken a moment before it was held.
      expect(silent).toMatchObject({ status: 503 });
      expect(silent?.tookMs).toBeGreaterThan(ALLOWED_MS - 1000);
      expect(back).toMatchObject({ status: 200 });
      expect(said).not.toContain("read worker restarted");
      expect(firsts).toHaveLength(2);
    } finally {
      await asker.terminate();
    }
  } finally {
    await node.stop();
  }
});
