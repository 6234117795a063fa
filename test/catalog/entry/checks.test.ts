/** The rules of an entry's checks that only code states, and what is meant where a field is left out. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { CheckFailure, CheckSchema } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { carriedStates, checksOf, FAILURE, statusesOf, targetOf, timesOf, UNKNOWN_STATE } from "../../../src/catalog/entry/checks.ts";
import { decodeMessage, finishEntry, withHealthInputs } from "../../../src/catalog/entry/codec.ts";
import { HEALTH } from "../../../src/catalog/record/record.ts";
import { WaymarkError } from "../../../src/lib/errors.ts";
import { BOUNDS } from "../../fakes/options.ts";
import { stamped } from "../../fakes/registry.ts";

type CheckInit = MessageInitShape<typeof CheckSchema>;

const TARGETS = [
  { name: "", host: "10.0.0.1", port: 80 },
  { name: "health", host: "10.0.0.1", port: 81 },
  { name: "stats", host: "10.0.0.1", port: 82, protocol: "UDP" },
  { name: "pod", host: "10.0.0.1", port: 0 },
];
const s = (seconds: number) => ({ seconds: BigInt(seconds) });

function faultsOf(check: CheckInit, targets: typeof TARGETS = TARGETS): readonly string[] {
  try {
    stamped("a", { targets, checks: [check] });
    return [];
  } catch (error) {
    if (!(error instanceof WaymarkError)) throw error;
    return (error.details.violations ?? []).map(({ field, description }) => `${field}: ${description}`);
  }
}

const TCP = { case: "tcp", value: {} } as const;
const TTL = { case: "ttl", value: {} } as const;

test.each<[what: string, check: CheckInit, fault: RegExp | undefined]>([
  ["of the first target", { probe: TCP }, undefined],
  ["of a named target", { target: "health", probe: { case: "grpc", value: { service: "svc.Health" } } }, undefined],
  ["without a probe", {}, /^entries\[0\]\.checks\[0\]\.probe: is required: one of grpc, http, tcp, ttl, alias/],
  ["of a target that is not there", { target: "nope", probe: TCP }, /checks\[0\]\.target: "nope" is not the name of a target/],
  ["of a target over UDP", { target: "stats", probe: TCP }, /checks\[0\]\.target: uses protocol udp/],
  ["of a target without a port", { target: "pod", probe: TCP }, /checks\[0\]\.target: has no port; a check needs a port to connect to/],
  [
    "that would take longer than its interval",
    { interval: s(2), timeout: s(3), probe: TCP },
    /\.timeout: 3 s is longer than the interval of 2 s/,
  ],
  ["that may take its whole interval", { interval: s(3), timeout: s(3), probe: TCP }, undefined],
  [
    "with the statuses turned round",
    { probe: { case: "http", value: { statusMin: 300, statusMax: 200 } } },
    /http\.status_max: 200 is less than status_min/,
  ],
  [
    "with a lowest status above the highest that is meant",
    { probe: { case: "http", value: { statusMin: 300 } } },
    /http\.status_max: 299 is less/,
  ],
  ["with a status that HTTP does not have", { probe: { case: "http", value: { statusMin: 99 } } }, /http\.status_min: 99/],
  [
    "with a line break in its path",
    { probe: { case: "http", value: { path: "/a\r\nhost: b" } } },
    /http\.path: .*a path that starts with \//,
  ],
  ["with a path that does not start at the root", { probe: { case: "http", value: { path: "health" } } }, /http\.path/],
  [
    "with too long a path",
    { probe: { case: "http", value: { path: `/${"x".repeat(512)}` } } },
    /http\.path: must have at most 512 characters, got 513/,
  ],
  [
    "that looks too often",
    { interval: { nanos: 999_999_999 }, probe: TCP },
    /checks\[0\]\.interval: must be from 1 s to 3600 s, got 0\.999999999 s/,
  ],
  ["that looks too seldom", { interval: s(3601), probe: TCP }, /checks\[0\]\.interval/],
  ["with too high a threshold", { failing: 11, probe: TCP }, /checks\[0\]\.failing: 11 must be 0 to 10/],
  ["that the program renews", { interval: s(60), probe: TTL }, undefined],
  ["that the program renews, of a target", { target: "health", probe: TTL }, /\.target: must be empty: checks of kind ttl/],
  ["that the program renews, with a timeout", { timeout: s(1), probe: TTL }, /\.timeout: must be absent: checks of kind ttl/],
  ["of nothing in particular", { probe: { case: "alias", value: {} } }, /\.alias\.key: is required/],
  [
    "of an entry whose key cannot be",
    { probe: { case: "alias", value: { key: { namespace: "A", name: "x", instanceId: "1" } } } },
    /\.alias\.key\.namespace/,
  ],
])("a check %s", (_what, check, fault) => {
  const faults = faultsOf(check);
  if (fault === undefined) expect(faults).toEqual([]);
  else expect(faults).toEqual([expect.stringMatching(fault)]);
});

test("an entry without targets has nothing that a check could look at", () => {
  expect(faultsOf({ probe: TCP }, [])).toEqual(["entries[0].checks[0].target: the entry has no targets"]);
});

test("an entry has at most four checks", () => {
  const four = Array.from({ length: 4 }, () => ({ probe: TCP }));
  expect(stamped("a", { targets: TARGETS, checks: four }).hasChecks).toBe(true);
  expect(() => stamped("a", { targets: TARGETS, checks: [...four, { probe: TCP }] })).toThrow(
    "entries[0].checks: must have at most 4 items, got 5",
  );
});

test("what is left out has the meaning that the contract says", () => {
  const check = (init: CheckInit) => create(CheckSchema, init);
  expect(timesOf(check({ probe: TCP }))).toEqual({ intervalMs: 10_000, timeoutMs: 5000, failing: 3, passing: 1 });
  expect(timesOf(check({ probe: TCP, interval: s(2), failing: 5, passing: 2 }))).toEqual({
    intervalMs: 2000,
    timeoutMs: 2000,
    failing: 5,
    passing: 2,
  });
  expect(timesOf(check({ probe: TTL }))).toMatchObject({ failing: 1 });
  expect(statusesOf({ statusMin: 0, statusMax: 0 })).toEqual({ min: 200, max: 299 });
  expect(statusesOf({ statusMin: 100, statusMax: 599 })).toEqual({ min: 100, max: 599 });
  const targets = TARGETS.map((target) => ({ priority: 0, weight: 0, protocol: "", ...target }));
  expect(targetOf(check({ probe: TCP }), targets)).toMatchObject({ port: 80 });
  expect(targetOf(check({ probe: TCP, target: "health" }), targets)).toMatchObject({ port: 81 });
  expect(targetOf(check({ probe: TTL }), targets)).toBeUndefined();
});

test("a client does not say what its checks have found, nor what it reports beside its health", () => {
  const said = { reportedHealth: 3, checkStates: [{ health: 1, failure: 2, httpStatus: 500 }] };
  const entry = { targets: TARGETS, checks: [{ probe: TCP }] };
  expect(stamped("a", { ...entry, ...said }).content).toEqual(stamped("a", entry).content);
  expect(stamped("a", { targets: TARGETS, ...said }).content).toEqual(stamped("a", { targets: TARGETS }).content);
});

test("an entry that is stored always has room for what its checks find", () => {
  const checks = Array.from({ length: 4 }, (_, i) => ({ probe: TCP, failing: i + 1 }));
  const states = checks.map(() => ({ health: 3, failure: FAILURE.ALIAS, httpStatus: 599 }));
  let largest = stamped("a", { targets: TARGETS, checks });
  let refusals = 0;
  for (let bytes = 880; bytes <= 1024; bytes++) {
    const metadata = Object.fromEntries(Array.from({ length: 16 }, (_, i) => [`k${i}`, "x".repeat(i === 0 ? bytes : 1010)]));
    try {
      largest = stamped("a", { targets: TARGETS, checks, metadata });
    } catch {
      refusals += 1;
    }
  }
  const full = withHealthInputs(largest, { reported: HEALTH.MAINTENANCE, states: states, maintenance: undefined });
  expect(full.content.length - largest.content.length).toBeGreaterThan(30);
  expect([full.content.length <= BOUNDS.maxEntryBytes, refusals > 0]).toEqual([true, true]);
});

test("states are written into stored bytes in place, with the health that comes of them, and nothing else changes", () => {
  const entry = stamped("a", { targets: TARGETS, checks: [{ probe: TCP }, { probe: TTL }], tags: ["x"], zone: "z9", metadata: { k: "v" } });
  const sealed = (content: Uint8Array) => decodeMessage(finishEntry(content, { registeredWallMs: 1, updatedWallMs: 2, load: undefined }));
  const found = [
    { health: HEALTH.HEALTHY, failure: 0, httpStatus: 0 },
    { health: HEALTH.CRITICAL, failure: FAILURE.NOT_RENEWED, httpStatus: 0 },
  ];
  const critical = withHealthInputs(entry, { reported: HEALTH.DEGRADED, states: found, maintenance: undefined });
  expect(sealed(critical.content)).toMatchObject({
    ...sealed(entry.content),
    health: HEALTH.CRITICAL,
    reportedHealth: HEALTH.DEGRADED,
    checkStates: found,
  });
  // Twice the same is the same bytes, and what is not known any more leaves no trace.
  expect(withHealthInputs(critical, { reported: HEALTH.DEGRADED, states: found, maintenance: undefined }).content).toEqual(
    critical.content,
  );
  expect(
    withHealthInputs(critical, { reported: HEALTH.HEALTHY, states: [UNKNOWN_STATE, UNKNOWN_STATE], maintenance: undefined }).content,
  ).toEqual(entry.content);
});

test("the failures are those of the contract", () => {
  const words = Object.entries(CheckFailure).filter(([, number]) => typeof number === "number");
  expect(Object.values(FAILURE)).toEqual(words.map(([, number]) => number));
  expect(Object.keys(FAILURE).map((word) => (word === "NONE" ? "UNSPECIFIED" : word))).toEqual(words.map(([word]) => word));
});

test("what is known of a check is carried over to the same check, once", () => {
  const { checks, targets } = checksOf(
    stamped("a", { targets: TARGETS, checks: [{ probe: TCP }, { probe: TCP }, { probe: TTL }] }).content,
  );
  const states = [HEALTH.HEALTHY, HEALTH.CRITICAL, HEALTH.DEGRADED].map((health) => ({ health, failure: 0, httpStatus: 0 }));
  const before = { checks, targets, checkStates: states };
  const [one, , ttl] = checks;
  const healthsOf = (now: readonly (typeof one)[]) =>
    carriedStates({ checks: now.flatMap((check) => check ?? []), targets }, before).map(({ health }) => health);
  expect(healthsOf(checks)).toEqual([HEALTH.HEALTHY, HEALTH.CRITICAL, HEALTH.DEGRADED]);
  expect(healthsOf([ttl, one, one, one])).toEqual([HEALTH.DEGRADED, HEALTH.HEALTHY, HEALTH.CRITICAL, HEALTH.UNSET]);
  const moved = targets.map((target) => ({ ...target, port: target.port + 1 }));
  expect(carriedStates({ checks, targets: moved }, before).map(({ health }) => health)).toEqual([0, 0, HEALTH.DEGRADED]);
});
