/** Of strangers a few are told of, and all are counted; an address that does not answer is told of once. */
import { expect, test } from "vitest";
import { RefusalLog } from "../../../src/node/core/parts/list.ts";
import { driven } from "../../fakes/node-part.ts";
import { at } from "../../fakes/registry.ts";

test("ten strangers a minute are told of, and all are counted", () => {
  const log = new RefusalLog();
  const give = driven(log);
  const told = (ms: number) => give({ kind: "strangerRefused", why: "no token", address: "x:1" }, at(ms));
  for (let i = 1; i <= 10; i++)
    expect(told(i)).toMatchObject([{ kind: "event", event: { name: "stranger_refused", isAudited: true, detail: { count: i } } }]);
  expect([told(11), told(60_000), log.refusedCount]).toEqual([[], [], 12]);
  expect(told(62_000)).toMatchObject([{ event: { detail: { count: 13 } } }]);
});

test("by whom a node is refused is told once, and who is not there, each address for itself", () => {
  const give = driven(new RefusalLog());
  const told = (address: string, isRefused: boolean, ms = 0) =>
    give({ kind: "unanswered", why: "why", address, isRefused }, at(ms)).map((output) => output.kind === "event" && output.event.name);
  expect([told("a:1", true), told("a:1", true), told("a:1", false), told("b:1", false), told("b:1", false, 1000)]).toEqual([
    ["refused_by_peer"],
    [],
    ["peer_not_reached"],
    ["peer_not_reached"],
    [],
  ]);
  expect(told("a:1", true, 700_000)).toEqual(["refused_by_peer"]);
});
