/** An unregister of a key that has expired: whoever still holds the entry must hear that it has certainly ended (semantics.md, Resolver 16). */
import { expect, test } from "vitest";
import { ANY } from "../../../src/catalog/query/filter.ts";
import { BODY, KIND, keyText } from "../../../src/catalog/record/record.ts";
import { CAUSE, causeOf } from "../../../src/catalog/watch/change-cause.ts";
import { WatchFeed } from "../../../src/catalog/watch/feed.ts";
import { ACTION, WatchReader } from "../../../src/catalog/watch/reader.ts";
import type { Caller } from "../../../src/policy/identity/caller.ts";
import { FabricComponent } from "../../fakes/mesh.ts";
import { at, caller, Disk, keyOf, Registry, stamped } from "../../fakes/registry.ts";
import { ResolverWorld } from "../../fakes/resolver-world.ts";

const [ANN, BOB, OWNER] = [caller("ann"), caller("bob"), caller("olga", ["owner:svc"])];
const OVER_MS = 31_000;

/** `svc/web` of ann's has expired here. */
function expired(disk = new Disk()): Registry {
  const r = new Registry(disk);
  r.register("ann", [stamped("web")], at(0));
  r.registrar.tick(at(OVER_MS));
  r.flush(at(OVER_MS));
  return r;
}

function unregister(r: Registry, who: Caller, ms = OVER_MS + 1): number {
  const { length: count } = r.registrar.unregisterKeys(who, [keyOf("web")], at(ms));
  r.flush(at(ms));
  return count;
}

const causes = (r: Registry) => r.replica.records(keyOf("web")).map(causeOf);

test.each([
  { what: "its principal", who: ANN, cause: CAUSE.UNREGISTERED },
  { what: "an owner of the namespace", who: OWNER, cause: CAUSE.UNREGISTERED },
  { what: "somebody else", who: BOB, cause: CAUSE.EXPIRED },
])("of an expired key that $what unregisters readers are told as much as is true", ({ who, cause }) => {
  const r = expired();
  const before = r.replica.lastSeq;
  // There was nothing to remove.
  expect(unregister(r, who)).toBe(0);
  expect(causes(r)).toEqual([cause]);
  // Once more changes nothing.
  const { lastSeq } = r.replica;
  expect([unregister(r, who, OVER_MS + 2), r.replica.lastSeq]).toEqual([0, lastSeq]);
  expect(lastSeq - before).toBe(cause === CAUSE.UNREGISTERED ? 1 : 0);
  expect(r.twin().replica.records(keyOf("web")).map(causeOf)).toEqual([cause]);
});

test("what another node says expired only an owner ends, because nobody here knows whose it was; an earlier record of a third node stays ended", () => {
  const r = new Registry();
  r.hear("web", BODY.ENTRY, 0, at(0));
  r.hear("web", BODY.EXPIRED, 0, at(1));
  expect([unregister(r, ANN, 2), causes(r)]).toEqual([0, [CAUSE.EXPIRED]]);
  expect([unregister(r, OWNER, 3), causes(r)]).toEqual([0, [CAUSE.UNREGISTERED, CAUSE.UNREGISTERED]]);
  r.hear("web", BODY.ENTRY, 1, at(4), "c");
  expect(r.names()).toEqual([]);
  r.register("ann", [stamped("web")], at(5000));
  expect(r.names()).toEqual(["web"]);
});

test("a key that is registered again meanwhile, or was never there, is as before", () => {
  const r = expired();
  r.register("ann", [stamped("web")], at(OVER_MS + 1));
  expect([unregister(r, ANN, OVER_MS + 2), causes(r)]).toEqual([1, [CAUSE.UNREGISTERED]]);
  const empty = new Registry();
  expect([unregister(empty, ANN), empty.replica.lastSeq]).toEqual([0, 0]);
});

test("a refused batch leaves it expired", () => {
  const r = expired();
  r.registrar.unregisterKeys(ANN, [keyOf("web")], at(OVER_MS + 1));
  r.refuse();
  expect(causes(r)).toEqual([CAUSE.EXPIRED]);
  unregister(r, ANN);
  expect(causes(r)).toEqual([CAUSE.UNREGISTERED]);
});

test("a resolver holds what vanished, until it hears that a key was unregistered after all", () => {
  const world = new ResolverWorld(["a"]);
  const keys = ["1", "2", "3", "4"].map((instanceId) =>
    keyText({ kind: KIND.SERVICE, namespace: "svc", name: "db", instanceId, clusterId: "c1" }),
  );
  for (const key of keys) world.put("a", key);
  world.run(2000);
  for (const key of keys) world.end("a", key, BODY.EXPIRED);
  world.run(1000);
  const name = { kind: KIND.SERVICE, namespace: "svc", name: "db" };
  const before = world.ask(name);
  world.endAgain("a", keys[0]!);
  world.run(1000);
  expect([before, world.ask(name)]).toEqual(["followed stale 4", "followed stale 3"]);
});

test("a reader that was told that a key expired is told once that it was unregistered", () => {
  const node = new FabricComponent("a");
  const time = at(0);
  const options = { filter: ANY, name: "r", hash: "r", allowed: () => true, policyEpoch: () => "e", isNamesOnly: false, withDigest: false };
  const feed = new WatchFeed(new WatchReader(options, node.replica, node.facts), { from: undefined, bookmarkIntervalMs: 60_000 }, time);
  const told = () => {
    node.commit(time);
    const said: string[] = [];
    for (let message = feed.next(time, 10_000, true); message !== undefined; message = feed.next(time, 10_000, true))
      for (const { action, cause } of message.changes) said.push(`${action} ${cause ?? ""}`);
    return said;
  };
  const key = keyOf("web");
  node.put(key, 0, time);
  expect(told()).toEqual([`${ACTION.CREATE} `]);
  node.end(key, BODY.EXPIRED, time);
  expect(told()).toEqual([`${ACTION.REMOVE} ${CAUSE.EXPIRED}`]);
  node.endAgain(key, time);
  expect(told()).toEqual([`${ACTION.REMOVE} ${CAUSE.UNREGISTERED}`]);
  expect(told()).toEqual([]);
  node.put(key, 0, time);
  node.end(key, BODY.UNREGISTERED, time);
  // What comes and goes between two looks is told to nobody.
  expect(told()).toEqual([]);
});
