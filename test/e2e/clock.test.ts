/**
 * A wall clock that jumps back and forth an hour under a running node (faketime's library): leases, windows and the audit hold.
 * @module-tag night
 */
import { existsSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { startNodeProcess } from "../fakes/node-process.ts";

const LIBRARY = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";
const HOUR_S = 3600;

/** A clock whose offset the test sets; monotonic time goes on as it does. */
class Clock {
  readonly folder = mkdtempSync(join(tmpdir(), "waymark-clock-"));
  readonly #file = join(this.folder, "offset");

  constructor() {
    this.jump(0);
  }

  get wrapper(): readonly string[] {
    const settings = { FAKETIME_TIMESTAMP_FILE: this.#file, FAKETIME_NO_CACHE: "1", FAKETIME_DONT_FAKE_MONOTONIC: "1" };
    return ["env", `LD_PRELOAD=${LIBRARY}`, ...Object.entries(settings).map(([name, value]) => `${name}=${value}`)];
  }

  jump(offsetSeconds: number): void {
    // In one step: the node reads it at every look at the clock, and an empty file is no clock.
    writeFileSync(`${this.#file}.new`, `${offsetSeconds < 0 ? "" : "+"}${offsetSeconds}\n`);
    renameSync(`${this.#file}.new`, this.#file);
  }
}

const isThere = existsSync(LIBRARY);

test.skipIf(!isThere)(`a clock that jumps an hour both ways${isThere ? "" : " (skipped: needs libfaketime)"}`, async () => {
  const clock = new Clock();
  await using node = await startNodeProcess(["--data-dir", join(clock.folder, "data")], clock.wrapper);
  const ok = async (argv: readonly string[], input = ""): Promise<string> => {
    const done = await node.run(argv, input);
    expect({ exit: done.exit, stderr: done.exit === 0 ? "" : done.stderr }).toEqual({ exit: 0, stderr: "" });
    return done.stdout;
  };
  const register = (instance: string) =>
    ok(["register", "--namespace", "shop", "--name", "web", "--instance", instance, "--target", "10.0.0.1:80", "--ttl", "60s"]);
  const held = async () =>
    (JSON.parse(await ok(["discovery", "query", "--namespace", "shop", "-o", "json"])) as { items?: unknown[] }).items?.length ?? 0;
  const verdict = async () => {
    const about = ["--namespace", "shop", "--action", "export-summary", "-o", "json"];
    return (JSON.parse(await ok(["namespace", "policy", "explain", ...about])) as { reason: string }).reason;
  };

  await register("1");
  // Open from half an hour on.
  const opens = new Date(Date.now() + (HOUR_S / 2) * 1000).toISOString();
  const rule = `  - namespace: shop\n    allow_summaries: true\n    cutover_windows:\n      - starts_at: ${opens}\n`;
  await ok(["namespace", "policy", "apply", "-"], `version: v1\nrules:\n${rule}`);
  expect(await verdict()).toBe("cutover_closed");
  for (const [offsetSeconds, reason] of [
    [HOUR_S, "summary_allowed"],
    [-HOUR_S, "cutover_closed"],
    [HOUR_S, "summary_allowed"],
    [0, "cutover_closed"],
  ] as const) {
    clock.jump(offsetSeconds);
    expect(await verdict(), `the wall says ${offsetSeconds} s`).toBe(reason);
    // A lease is measured by the monotonic clock: an hour on the wall ends none of 60 s.
    expect(await held()).toBe(1);
    await register("1");
  }
  // Stamps only grow, also after the wall went back: what is written now is seen now.
  await register("2");
  expect(await held()).toBe(2);
  await ok(["unregister", "--namespace", "shop", "--name", "web", "--instance", "2"]);
  expect(await held()).toBe(1);
  await ok(["audit", "verify"]);
  await node.stop();
  rmSync(clock.folder, { recursive: true });
});
