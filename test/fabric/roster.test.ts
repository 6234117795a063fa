import { expect, test } from "vitest";
import { MemberRoster } from "../../src/fabric/data-freshness.ts";
import { OriginLifecycle } from "../../src/fabric/origin-lifecycle.ts";
import { NEVER } from "../../src/lib/machine.ts";
import { updateOf } from "../fakes/fabric-values.ts";
import { FabricComponent } from "../fakes/mesh.ts";
import { lifecycleParts, ORIGIN_LIFECYCLE_OPTIONS } from "../fakes/options.ts";

const SELF = { nodeId: "a", clusterId: "c1", maxMembers: 3, originForgetMs: 90_000 };
const at = (monoMs: number) => ({ monoMs, wallMs: 0 });

test("P6: a member that is remembered is away until it is met, and for no longer than an origin is remembered", () => {
  const roster = new MemberRoster(SELF, ["a", "b", "c"]);
  expect([roster.list(), roster.isAnybodyAway, roster.tick(at(1000))]).toEqual([["b", "c"], true, 91_000]);
  roster.memberChanged(updateOf("b", { status: "alive" }));
  expect([roster.isAnybodyAway, roster.tick(at(90_999))]).toEqual([true, 91_000]);
  expect([roster.tick(at(91_000)), roster.isAnybodyAway, roster.list()]).toEqual([Number.POSITIVE_INFINITY, false, ["b"]]);
});

test("P6: a member that died is away from then on, whatever is said of it after, until it is back or has left", () => {
  const roster = new MemberRoster(SELF);
  const say = (status: "alive" | "suspect" | "dead" | "left") => {
    roster.memberChanged(updateOf("b", { status }));
    return roster.isAnybodyAway;
  };
  expect([say("alive"), say("suspect"), say("dead"), roster.tick(at(5000)), say("dead"), roster.tick(at(6000))]).toEqual([
    false,
    false,
    true,
    95_000,
    true,
    95_000,
  ]);
  expect([say("alive"), say("dead"), roster.tick(at(7000)), say("left"), roster.list()]).toEqual([false, true, 97_000, false, []]);
});

test("members of another cluster, and a node that never had a peer, hold nothing up", () => {
  const roster = new MemberRoster(SELF);
  expect([roster.isAnybodyAway, roster.tick(at(0))]).toEqual([false, Number.POSITIVE_INFINITY]);
  roster.memberChanged(updateOf("x", { clusterId: "c2", status: "dead" }));
  roster.memberChanged(updateOf("a", { status: "dead" }));
  expect([roster.isAnybodyAway, roster.list()]).toEqual([false, []]);
});

test("there is room for as many as for members; who went first makes place", () => {
  const roster = new MemberRoster(SELF, ["b", "c", "d"]);
  roster.memberChanged(updateOf("b"));
  roster.memberChanged(updateOf("e"));
  expect(roster.list()).toEqual(["b", "d", "e"]);
  const { version } = roster;
  roster.memberChanged(updateOf("e", { status: "dead" }));
  expect(roster.version).toBe(version);
  roster.memberChanged(updateOf("e", { status: "left" }));
  expect(roster.version).not.toBe(version);
});

test("time in which this node stood still does not count for who is away", () => {
  const roster = new MemberRoster(SELF, ["b"]);
  roster.tick(at(1000));
  roster.postpone(60_000);
  expect(roster.tick(at(91_000))).toBe(151_000);
});

test("who is remembered holds tombstones up, is nobody elsewhere as to the age of what is held, and wakes its owner when its time is over", () => {
  const { replica } = new FabricComponent("a");
  const lifecycle = new OriginLifecycle(ORIGIN_LIFECYCLE_OPTIONS, { ...lifecycleParts(replica), remembered: ["b"] });
  lifecycle.look(at(0), []);
  expect([lifecycle.isAnybodyAway, lifecycle.isAnybodyElsewhere, lifecycle.nextDeadlineMs()]).toEqual([
    true,
    false,
    ORIGIN_LIFECYCLE_OPTIONS.originForgetMs,
  ]);
  lifecycle.look(at(ORIGIN_LIFECYCLE_OPTIONS.originForgetMs), []);
  expect([lifecycle.isAnybodyAway, lifecycle.nextDeadlineMs()]).toEqual([false, NEVER]);
});
