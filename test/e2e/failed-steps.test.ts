/**
 * A start that fails at whatever step closes what it opened: nothing is left open, and the directory takes the next start.
 * @module-tag night
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { loadConfig } from "../../src/config/load.ts";
import { openLog } from "../../src/lib/log.io.ts";
import type { OnStep } from "../../src/node/components.io.ts";
import { startNode } from "../../src/node/node.io.ts";

const root = mkdtempSync(join(tmpdir(), "waymark-failed-step-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));

const PORTS = ["listen.grpc_port", "listen.http_port", "dns.udp_port", "fabric.port"].map((name) => [name, "0"] as const);
/** What a start opens that would keep a process or a port: sockets and threads. */
const KEPT = new Set(["TCPServerWrap", "TCPSocketWrap", "UDPWrap", "Worker", "MessagePort"]);

function start(onStep: OnStep, interrupt?: AbortSignal) {
  const loaded = loadConfig({ env: {}, flags: new Map<string, string>([["persistence.data_dir", join(root, "data")], ...PORTS]) });
  if (!loaded.ok) throw new Error(JSON.stringify(loaded.problems));
  const log = openLog({ level: "silent", scopes: new Map(), format: "json" });
  return startNode({ settings: loaded.effective.settings, log, version: "test", onStep, interrupt });
}

function opened(): readonly string[] {
  return process
    .getActiveResourcesInfo()
    .filter((kind) => KEPT.has(kind))
    .toSorted();
}

test("each step of a start fails once, and nothing is open afterwards", async () => {
  const before = opened();
  const steps: string[] = [];
  const whole = await start((step) => void steps.push(step));
  expect(opened().length).toBeGreaterThan(before.length);
  await whole.stop();
  await expect.poll(opened, { timeout: 5000, message: "open after a stop" }).toEqual(before);
  expect(steps.length).toBeGreaterThan(15);
  for (const failing of steps) {
    const failed = start((step) => {
      if (step === failing) throw new Error(`${step} fails`);
    });
    await expect(failed).rejects.toThrow(`${failing} fails`);
    await expect.poll(opened, { timeout: 5000, message: `open after ${failing}` }).toEqual(before);
  }
  await (await start(() => {})).stop();
});

test("a node that is told to stop while any of its parts opens begins none of them, the last one too", async () => {
  const before = opened();
  const steps: string[] = [];
  await (await start((step) => void steps.push(step))).stop();
  const opening = steps.filter((step) => step.startsWith("open "));
  expect(opening.length).toBeGreaterThan(8);
  for (const told of opening) {
    const interrupt = new AbortController();
    const after: string[] = [];
    const stopped = start((step) => {
      if (step === told) interrupt.abort(new Error("told to stop"));
      if (interrupt.signal.aborted) after.push(step);
    }, interrupt.signal);
    await expect(stopped).rejects.toThrow("told to stop");
    expect(after, `steps from ${told} on`).toEqual([told]);
    await expect.poll(opened, { timeout: 5000, message: `open after ${told}` }).toEqual(before);
  }
});
