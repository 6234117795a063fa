/** Events of the mesh in log, audit and metrics: one id for the same event, and no more than is worth telling. */
import { expect, test } from "vitest";
import { KIND } from "../../../src/catalog/record/record.ts";
import type { Log } from "../../../src/lib/log.io.ts";
import { Metrics } from "../../../src/lib/metrics/metrics.ts";
import { FabricEvents } from "../../../src/node/fabric/events.io.ts";
import type { NodeCore } from "../../../src/node/rooms.io.ts";
import { MemberBench, said } from "../../fabric/membership-bench.ts";
import { factsOf } from "../../fabric/membership-world.ts";
import { updateOf } from "../../fakes/fabric-values.ts";

interface Line {
  readonly level: string;
  readonly fields: Readonly<Record<string, unknown>>;
  readonly message: string;
}

function events() {
  const lines: Line[] = [];
  const audited: Readonly<Record<string, unknown>>[] = [];
  const metrics = new Metrics();
  const at = (level: string) => (fields: Readonly<Record<string, unknown>>, message: string) => void lines.push({ level, fields, message });
  const levels = { trace: at("trace"), debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error") };
  const log: Log = { ...levels, isEnabled: () => true, child: () => log };
  const audit = { record: (row: Readonly<Record<string, unknown>>) => void audited.push(row) };
  // Of a whole node only these are used.
  const core = { metrics, audit, identity: { boot: "b00t" } } as unknown as NodeCore;
  return { lines, audited, metrics, events: new FabricEvents(core, log) };
}

test("what is audited has one id in the log and in the audit, and says from where, who was claimed, and why", () => {
  const { lines, audited, metrics, events: mesh } = events();
  const detail = { reason: "wrong_token", nodeId: "m", address: "10.0.0.9:5" };
  mesh.log({ name: "peer_refused", severity: "warn", isAudited: true, detail });
  mesh.log({ name: "link_lost", severity: "info", isAudited: false, detail: { nodeId: "b" } });
  const [refused, lost] = lines;
  expect(refused).toMatchObject({ level: "warn", message: "peer refused", fields: { event: "peer_refused", ...detail } });
  expect(lost).toMatchObject({ level: "info", message: "link lost" });
  const ids = lines.map(({ fields }) => String(fields["eventId"]));
  expect(new Set(ids).size).toBe(2);
  expect(ids.every((id) => id.startsWith("b00t-"))).toBe(true);
  expect(audited).toHaveLength(1);
  expect(audited[0]).toMatchObject({
    subjects: "node:m",
    action: "mesh.peer_refused",
    outcome: "denied",
    reason: "wrong_token",
    source: "10.0.0.9:5",
    principal: "",
  });
  expect(audited[0]?.["detail"]).toBe(`reason=wrong_token nodeId=m address=10.0.0.9:5 event=${ids[0]}`);
  expect(metrics.counter("mesh_events_total", { event: "peer_refused" }).value).toBe(1);
});

test("the record of an event that concerns several entries lists them, and its line in the log does not", () => {
  const { audited, lines, events: mesh } = events();
  const detail = { nodeId: "a", kind: "leased", count: 2 };
  mesh.log({ name: "drain_forced", severity: "warn", isAudited: true, detail, subjects: ["svc/api/a", "svc/api/b"] });
  expect(audited).toMatchObject([{ action: "mesh.drain_forced", outcome: "noted", subjects: "node:a\nsvc/api/a\nsvc/api/b" }]);
  expect(lines.map(({ fields }) => Object.keys(fields))).toEqual([["nodeId", "kind", "count", "event", "eventId"]]);
});

test("what only happened is noted in the audit: nobody was denied anything", () => {
  const { audited, events: mesh } = events();
  mesh.staticEnded({ namespace: "svc", kind: KIND.SERVICE, name: "api", instanceId: "a", clusterId: "c" });
  mesh.log({ name: "own_clock_off", severity: "error", isAudited: true, detail: { ahead_ms: 1 } });
  expect(audited.map((row) => [row["action"], row["outcome"], row["subjects"]])).toEqual([
    ["mesh.static_entry_ended", "noted", "svc/api/a"],
    ["mesh.own_clock_off", "noted", ""],
  ]);
});

test("a member is told of when its status changes, a death louder, an accuser only of a suspect", () => {
  const { lines, events: mesh } = events();
  mesh.member(updateOf("b"));
  mesh.member(updateOf("b", { incarnation: 4, healthScore: 3 }));
  mesh.member(updateOf("b", { status: "suspect", accuser: "c" }));
  mesh.member(updateOf("b", { status: "dead", accuser: "c" }));
  mesh.member(updateOf("b", { status: "alive", incarnation: 9 }));
  expect(lines.map(({ level, message, fields }) => [level, message, fields["before"], fields["accuser"]])).toEqual([
    ["info", "member is alive", undefined, undefined],
    ["info", "member is suspect", "alive", "c"],
    ["warn", "member is dead", "suspect", undefined],
    ["info", "member is alive", "dead", undefined],
  ]);
});

test("joins and departures of members are recorded in the audit log, suspicions are not", () => {
  const { audited, lines, events: mesh } = events();
  mesh.member(updateOf("gone", { status: "dead" }));
  mesh.member(updateOf("b"));
  mesh.member(updateOf("b", { status: "suspect", accuser: "c" }));
  mesh.member(updateOf("b"));
  mesh.member(updateOf("b", { status: "suspect", accuser: "c" }));
  mesh.member(updateOf("b", { status: "dead", accuser: "c" }));
  mesh.member(updateOf("b", { status: "alive", incarnation: 9 }));
  mesh.member(updateOf("b", { status: "left" }));
  expect(audited.map((row) => [row["action"], row["outcome"], row["subjects"]])).toEqual([
    ["mesh.member_joined", "noted", "node:b"],
    ["mesh.member_left", "noted", "node:b"],
    ["mesh.member_joined", "noted", "node:b"],
    ["mesh.member_left", "noted", "node:b"],
  ]);
  expect(audited.map((row) => /status=(\w+)/.exec(String(row["detail"]))?.[1])).toEqual(["alive", "dead", "alive", "left"]);
  const ids = lines.map(({ fields }) => String(fields["eventId"]));
  expect(audited.every((row) => ids.includes(/event=(\S+)/.exec(String(row["detail"]))?.[1] ?? ""))).toBe(true);
});

test("a finding of this node is one log line, with the name of the event, the path and the accusers", () => {
  const { lines, metrics, events: mesh } = events();
  mesh.member(updateOf("b"));
  mesh.log({ name: "member_suspected", severity: "info", isAudited: false, detail: { nodeId: "b", path: "indirect", via: "c d" } });
  mesh.member(updateOf("b", { status: "suspect", accuser: "a" }));
  mesh.log({ name: "member_dead", severity: "warn", isAudited: false, detail: { nodeId: "b", accusers: "a c" } });
  mesh.member(updateOf("b", { status: "dead", accuser: "a" }));
  expect(lines.slice(1)).toMatchObject([
    { level: "info", message: "member is suspect", fields: { event: "member_suspected", nodeId: "b", path: "indirect", via: "c d" } },
    { level: "warn", message: "member is dead", fields: { event: "member_dead", nodeId: "b", accusers: "a c" } },
  ]);
  expect(lines).toHaveLength(3);
  expect(metrics.counter("mesh_events_total", { event: "member_suspected" }).value).toBe(1);
});

test("a finding is followed by the change of its member", () => {
  const bench = new MemberBench({ facts: factsOf("self"), isSilent: true });
  bench.hear([said("a"), said("b")]);
  bench.failUntil(() => bench.held("a")?.status === "dead");
  const about = bench.outputs.flatMap((output) => {
    if (output.kind === "event" && output.event.detail["nodeId"] === "a") return [output.event.name];
    return output.kind === "memberChanged" && output.update.nodeId === "a" ? [output.update.status] : [];
  });
  expect(about).toEqual(["alive", "member_suspected", "suspect", "member_dead", "dead"]);
});

test("of members that come and go under new names the last ten thousand are remembered", () => {
  const { lines, events: mesh } = events();
  for (let n = 0; n < 10_001; n++) mesh.member(updateOf(`n${n}`));
  mesh.member(updateOf("n10000"));
  expect(lines).toHaveLength(10_001);
  mesh.member(updateOf("n0"));
  expect(lines).toHaveLength(10_002);
});
