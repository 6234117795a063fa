/** The serials of the zone on disk: none is told before it is kept, and a disk that does not keep them is said once. */
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { RegisterRequestSchema } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { readZoneFile } from "../../src/dns/views/zone-versions.ts";
import { ZoneSerials } from "../../src/node/zone-serials.io.ts";
import { anonymousCaller } from "../../src/policy/identity/caller.ts";
import { startDiscovery } from "../fakes/discovery-service.ts";
import { SETTINGS } from "../fakes/options.ts";
import { until } from "../fakes/until.ts";

let home = "";
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), "waymark-serials-"));
});
afterEach(() => {
  vi.useRealTimers();
  rmSync(home, { recursive: true, force: true });
});

/** Serials in a folder, whose time goes on by seconds as the test says, and of which each has a change. */
async function open(folder: string) {
  const inside = await startDiscovery();
  vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
  let aheadMs = 0;
  const now = () => ({ monoMs: performance.now() + aheadMs, wallMs: Date.now() });
  const warned: string[] = [];
  const log = { warn: (_: object, text: string) => void warned.push(text) };
  const settings = { ...SETTINGS, persistence: { ...SETTINGS.persistence, ephemeral: false, dataDir: folder } };
  const { core } = inside;
  const serials = await ZoneSerials.open({ ...core, settings, log, now });
  assert(serials !== undefined, "DNS is on");
  const told = () => new Uint32Array(serials.announced)[0] ?? 0;
  let count = 0;
  /** Something changes, and a second later it is looked at. */
  const change = async () => {
    const register = inside.service.handlers["register"];
    assert(register?.kind === "unary");
    const key = { namespace: "svc", name: `web${count++}`, kind: 1, instanceId: "1" };
    const request = create(RegisterRequestSchema, {
      entries: [{ key, targets: [{ host: "192.0.2.1", port: 1 }], scope: 3 }],
      staticLease: true,
    });
    const caller = { ...anonymousCaller("local", "127.0.0.1", ["mesh.admin"]), principal: "ann" };
    await register.handle(request as never, { caller, time: inside.now(), requestId: "" });
    aheadMs += 1000;
    vi.advanceTimersByTime(1000);
  };
  const kept = () =>
    readZoneFile(readFileSync(join(folder, "zone-serials")))
      ?.values()
      .next().value;
  return { serials, told, change, kept, warned };
}

test("a serial is told once it is on disk, so that no restart knows less than a secondary", async () => {
  const { serials, told, change, kept } = await open(home);
  const first = told();
  expect([kept(), Math.abs(first - Date.now() / 1000) < 60]).toEqual([first, true]);
  await change();
  // It is being written.
  expect(told()).toBe(first);
  await until("the next serial", () => told() !== first);
  expect([told(), kept()]).toEqual([first + 1, first + 1]);
  await serials.stop();
});

test("a disk that does not keep serials is said once, and again when it fails again; they go on all the same", async () => {
  const folder = join(home, "data");
  mkdirSync(folder);
  const { serials, told, change, warned } = await open(folder);
  const moved = async () => {
    const before = told();
    await change();
    await until("the next serial", () => told() !== before);
    return warned.length;
  };
  const counts: number[] = [];
  for (const isThere of [false, false, true, false]) {
    if (isThere) mkdirSync(folder);
    else rmSync(folder, { recursive: true, force: true });
    counts.push(await moved());
  }
  expect(counts).toEqual([1, 1, 1, 2]);
  await serials.stop();
});

test("after a file that is broken the serials go on from when it was written, also where the clock was set back since", async () => {
  const path = join(home, "zone-serials");
  writeFileSync(path, "no serials");
  const aheadSeconds = Math.floor(Date.now() / 1000) + 86_400;
  utimesSync(path, aheadSeconds, aheadSeconds);
  const { serials, told } = await open(home);
  expect(told()).toBeGreaterThan(aheadSeconds);
  await serials.stop();
});
