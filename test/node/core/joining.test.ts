/** What a node is to others when it joins them, as settings, disk and snapshot say. */
import { expect, test } from "vitest";
import { Leases } from "../../../src/catalog/leases.ts";
import type { Settings } from "../../../src/config/settings.ts";
import type { Time } from "../../../src/lib/machine.ts";
import { Metrics } from "../../../src/lib/metrics/metrics.ts";
import { Rng } from "../../../src/lib/rng.ts";
import { joinOthers } from "../../../src/node/core/joining.ts";
import { openRooms } from "../../../src/node/core/rooms.ts";
import type { WarmStart } from "../../../src/node/core/warm-start.ts";
import type { NodeOutput } from "../../../src/node/core-io.ts";
import { HISTORY_BOUNDS } from "../../../src/policy/versions/engine.ts";
import { greetingOf } from "../../fakes/fabric-world.ts";
import { FABRIC_OPTIONS, SETTINGS } from "../../fakes/options.ts";
import { at } from "../../fakes/registry.ts";
import { ALL_TIME_COUNTS } from "../../fakes/stall-clock.ts";

const NODE = { ...SETTINGS.node, clusterId: "c1", region: "r1", labels: { rack: "7" } };
const SETTINGS_HERE = { ...SETTINGS, node: NODE, fabric: { ...SETTINGS.fabric, clusterTokenFile: "token" } };

function joined({
  warm,
  now = at(0),
  checks = SETTINGS.checks,
}: {
  readonly warm?: WarmStart;
  readonly now?: Time;
  readonly checks?: Settings["checks"];
} = {}) {
  const options = { settings: SETTINGS_HERE, version: "1", history: HISTORY_BOUNDS, stallClock: ALL_TIME_COUNTS, audit: undefined };
  const chance = { leases: new Leases(1), newGeneration: () => 77, newToken: () => "token", random: () => 0.5, onAgain: () => {} };
  const restored = { nodeId: "a", generation: 5, lastSeq: 0, floor: 0, leases: [], boot: "b2" };
  const given = { ...options, ...chance, metrics: new Metrics(), isMarked: false, now: () => at(0) };
  const { rooms } = openRooms(restored, given, at(0)).finish();
  const parts = {
    settings: { ...SETTINGS_HERE, checks },
    options: FABRIC_OPTIONS,
    rng: new Rng("joining"),
    address: "a:1",
    tokens: { clusterToken: "new", otherToken: "old" },
    start: { boot: "b2", earlierBoots: ["b1"] },
    remembered: [],
    warm,
    snapshots: { intervalMs: 0, isOtherThere: false },
  };
  return { rooms, fabric: joinOthers(rooms, parts, now) };
}

test("a node tells others its place and labels from the settings, and its start and generation from the disk", () => {
  const { rooms, fabric } = joined();
  expect(rooms.machine.fabric).toBe(fabric);
  const facts = {
    nodeId: "a",
    clusterId: "c1",
    region: "r1",
    labels: { rack: "7" },
    address: "a:1",
    generation: 5,
    boot: "b2",
    bootBefore: "b1",
  };
  expect(fabric.membership.find("a")).toMatchObject(facts);
});

test.each([true, false])("a node tells others that it runs checks when its settings say so: %s", (enabled) => {
  const { rooms } = joined({ checks: { enabled, allowed: [] } });
  const identity = { address: "b:1", isLoopback: true, certificate: undefined, clusterToken: "new" };
  const hello = greetingOf("b", { clusterToken: "new" });
  rooms.machine.handle({ kind: "begin" }, at(0), []);
  rooms.machine.handle({ kind: "opened", link: 2, isIncoming: true, identity }, at(1), []);
  rooms.machine.handle({ kind: "received", link: 2, frame: { kind: "hello", hello } }, at(1), []);
  expect(rooms.machine.fabric?.pull(2, at(1), [])).toMatchObject({ kind: "hello", hello: { runsChecks: enabled } });
});

test.each([
  { token: "new", isTaken: true },
  { token: "old", isTaken: true },
  { token: "guessed", isTaken: false },
])("a peer that shows the token $token is taken: $isTaken, from the first moment on", ({ token, isTaken }) => {
  const { rooms } = joined();
  const out: NodeOutput[] = [];
  const identity = { address: "b:1", isLoopback: true, certificate: undefined, clusterToken: token };
  const hello = greetingOf("b", { clusterToken: token });
  rooms.machine.handle({ kind: "begin" }, at(0), out);
  rooms.machine.handle({ kind: "opened", link: 2, isIncoming: true, identity }, at(1), out);
  rooms.machine.handle({ kind: "received", link: 2, frame: { kind: "hello", hello } }, at(1), out);
  expect(out.some(({ kind }) => kind === "event")).toBe(!isTaken);
  expect(rooms.machine.fabric?.links().some(({ hello: from }) => from?.nodeId === "b")).toBe(isTaken);
});

test.each([
  { what: "saved 30 s before", savedMs: -30_000, ageMs: 32_000 },
  { what: "saved in a time that the clock was set back from", savedMs: 9000, ageMs: 2000 },
])("what came back, $what, is as old 2 s later as if the start had taken no time", ({ savedMs, ageMs }) => {
  const now = at(5000);
  const savedWallMs = now.wallMs + savedMs;
  const nothing = { recordCount: 0, refusedCount: 0, absentWallMs: new Map(), over: new Set<string>(), superseded: [], starts: [] };
  const { fabric } = joined({ warm: { ok: true, savedWallMs, ...nothing }, now });
  expect(fabric.readiness.read(at(7000)).ageMs).toBe(ageMs);
});
