/** What another cluster says of a key that is not its own decides nothing about who is told of that key. */
import { expect, test } from "vitest";
import { SCOPE } from "../../src/catalog/entry/scope.ts";
import { BODY } from "../../src/catalog/record/record.ts";
import { at, keyOf, Registry, stamped, WALL } from "../fakes/registry.ts";

test.each([
  { who: "another cluster", clusterId: "c2", reach: SCOPE.ZONE },
  { who: "a node of our own", clusterId: "c1", reach: SCOPE.GLOBAL },
])("an unregister reaches as far as $who was told of the key: $reach", ({ clusterId, reach }) => {
  const r = new Registry();
  r.register("ann", [stamped("web", { scope: SCOPE.ZONE })], at(0));
  r.flush(at(0));
  r.receive(stamped("web", { scope: SCOPE.GLOBAL }), { body: BODY.UNREGISTERED, hlcMs: -1000, nodeId: "x" }, at(1));
  r.replica.origin("x", 1).clusterId = clusterId;
  const ann = { principal: "ann", tenant: "", cluster: "c1", roles: [], isAuthenticated: true, address: "" };
  r.registrar.unregisterKeys(ann, [keyOf("web")], at(2));
  r.flush(at(2));
  const own = r.replica.own(keyOf("web"));
  expect([own?.body, own?.reach]).toEqual([BODY.UNREGISTERED, reach]);
});

test("nor is a write drawn after what another cluster says of the key, however far ahead that is", () => {
  const r = new Registry();
  r.receive(stamped("web"), { body: BODY.UNREGISTERED, hlcMs: 86_400_000, nodeId: "x" }, at(0));
  r.replica.origin("x", 1).clusterId = "c2";
  r.register("ann", [stamped("web")], at(10));
  expect(r.replica.own(keyOf("web"))?.hlc).toBeLessThan((WALL + 11) * 2048);
});
