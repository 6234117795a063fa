/** Where names lead that have nothing here: what is found, for how long it holds, and who hears that it does not. */
import { expect, test } from "vitest";
import { SCOPE } from "../../../src/catalog/entry/scope.ts";
import { HEALTH, KIND } from "../../../src/catalog/record/record.ts";
import type { NameObserver } from "../../../src/discovery/dns-names.ts";
import { ClusterNames } from "../../../src/discovery/summaries/cluster-names.ts";
import { WALL } from "../../fakes/registry.ts";
import { ANYONE, SummaryWorld } from "../../fakes/summary-readers.ts";

const NAME = { kind: KIND.SERVICE, namespace: "svc", name: "web" };
const INGRESS = [{ urls: ["grpc://192.0.2.1:7420"], scope: SCOPE.GLOBAL, capabilities: [], tags: [] }];

test("what is found stands as an entry of its cluster, and says what it rests on and when it ends", () => {
  const world = new SummaryWorld();
  const heard: string[] = [];
  const dnsNames = { catchUp: () => void heard.push("catalog"), follow: () => {} };
  const names = new ClusterNames({ summaries: world.summaries, dnsNames, hosts: ["192.0.2.9"], zones: [], now: () => world.now() });
  const nothing = () => {};
  const follower: NameObserver = {
    entryChanged: (name) => void heard.push(name.replaceAll("\0", " ")),
    aliasChanged: nothing,
    addressChanged: nothing,
    belowChanged: (suffix) => void heard.push(`.${suffix}`),
    originChanged: nothing,
    everythingChanged: nothing,
  };
  names.follow(follower);
  const found = () => names.find(ANYONE, NAME, undefined);
  expect(found()).toMatchObject({ entry: undefined, rests: [] });
  world.ingress.set("us-1", INGRESS);
  world.put({ namespace: "svc", serviceId: "web", source: "us-1", notAfterWallMs: WALL + 90_000 });
  names.catchUp();
  const beacon = `discovery.summaries us-1 ${KIND.NODE}`;
  expect(heard.splice(0)).toEqual(["catalog", `svc web ${KIND.SERVICE}`, ".svc"]);
  const { entry, rests, ends } = found();
  const said = { key: { ...NAME, clusterId: "us-1" }, region: "us", ttlMs: 90_000, health: HEALTH.HEALTHY };
  expect(entry).toMatchObject({ ...said, targets: [{ host: "192.0.2.1", port: 7420, protocol: "grpc" }] });
  expect([rests.map((name) => name.replaceAll("\0", " ")), ends]).toEqual([[beacon], { monoMs: 120_000, wallMs: WALL + 90_000 }]);
  world.turn("us-1", true);
  expect(heard.splice(0)).toEqual([beacon]);
  expect(found()).toMatchObject({ entry: { health: HEALTH.ORPHANED }, ends: { monoMs: Number.POSITIVE_INFINITY } });
  world.ingress.delete("us-1");
  expect([found().entry, found().rests.length]).toEqual([undefined, 1]);
  const view = { sees: () => true, counts: () => true };
  expect(["svc", "web", "summaries"].map((suffix) => names.hasNameUnder(suffix, "waymark", view))).toEqual([true, false, false]);
});
