import { expect, test } from "vitest";
import { LIVES_DEFAULTS, Lives } from "../../src/fabric/lives.ts";
import type { MemberUpdate } from "../../src/fabric/messages.ts";
import type { FabricEvent } from "../../src/fabric/seam.ts";
import { greetingOf } from "../fakes/fabric-world.ts";
import { timeOf } from "../fakes/history.ts";
import { KEYS, MeshNode } from "../fakes/mesh.ts";

function memberOf(nodeId: string, more: Partial<MemberUpdate> = {}): MemberUpdate {
  const { capabilities: _c, clusterToken: _t, ...hello } = greetingOf(nodeId);
  const rest = { transports: ["h2"], roles: [], labels: {}, healthScore: 0, status: "alive", incarnation: 1, accuser: "" } as const;
  return { ...hello, ...rest, ...more };
}

test("clocks of origins that were away before a restart go on; those of others begin with it", () => {
  const [n1, n2, n3] = ["n1", "n2", "n3"].map((id) => new MeshNode(id)) as [MeshNode, MeshNode, MeshNode];
  for (const [i, node] of [n2, n3].entries()) {
    node.put(KEYS[i]!, 0, timeOf(0, 0));
    node.commit(timeOf(0, 0));
    n1.copy(node, node.replica.self.id, timeOf(0, 0));
  }
  const { replica } = n1;
  const parts = { replica, clusterId: "c1", findMember: () => undefined, readmit: () => undefined };
  const lives = new Lives(LIVES_DEFAULTS, { ...parts, forgetOrigin: (origin, time) => replica.forgetOrigin(origin, time) });
  const start = { monoMs: 1000, wallMs: 1_000_000 };
  lives.resume(new Map([["n2/1", start.monoMs - LIVES_DEFAULTS.orphanGraceMs]]), start.monoMs);
  lives.tick(start, []);
  expect([...replica.origins.values()].map(({ id, life }) => [id, life])).toEqual([
    ["n1/1", "live"],
    ["n2/1", "hidden"],
    ["n3/1", "orphaned"],
  ]);
  lives.tick({ monoMs: start.monoMs + LIVES_DEFAULTS.originForgetMs - LIVES_DEFAULTS.orphanGraceMs, wallMs: 0 }, []);
  expect([...replica.forgotten]).toEqual(["n2/1"]);
});

test("what others hide a newcomer does not show for another grace, and forgets no sooner for it", () => {
  const [n1, n2, n3] = ["n1", "n2", "n3"].map((id) => new MeshNode(id)) as [MeshNode, MeshNode, MeshNode];
  for (const [i, node] of [n2, n3].entries()) {
    node.put(KEYS[i]!, 0, timeOf(0, 0));
    node.commit(timeOf(0, 0));
    n1.copy(node, node.replica.self.id, timeOf(0, 0));
  }
  const { replica } = n1;
  const parts = { replica, clusterId: "c1", findMember: () => undefined, readmit: () => undefined };
  const lives = new Lives(LIVES_DEFAULTS, {
    ...parts,
    wasHidden: (id) => id === "n2/1",
    forgetOrigin: (origin, time) => replica.forgetOrigin(origin, time),
  });
  lives.tick({ monoMs: 1000, wallMs: 0 }, []);
  expect([...replica.origins.values()].map(({ id, life }) => [id, life])).toEqual([
    ["n1/1", "live"],
    ["n2/1", "hidden"],
    ["n3/1", "orphaned"],
  ]);
  lives.tick({ monoMs: 1000 + LIVES_DEFAULTS.originForgetMs - LIVES_DEFAULTS.orphanGraceMs - 1, wallMs: 0 }, []);
  expect([...replica.forgotten]).toEqual([]);
});

test("an origin back from the snapshot is live until a table of members says otherwise, or for a short while", () => {
  const [n1, n2, n3, n4] = ["n1", "n2", "n3", "n4"].map((id) => new MeshNode(id)) as [MeshNode, MeshNode, MeshNode, MeshNode];
  for (const [i, node] of [n2, n3, n4].entries()) {
    node.put(KEYS[i]!, 0, timeOf(0, 0));
    node.commit(timeOf(0, 0));
    n1.copy(node, node.replica.self.id, timeOf(0, 0));
  }
  const { replica } = n1;
  const known = new Map<string, MemberUpdate>();
  const lives = new Lives(LIVES_DEFAULTS, {
    replica,
    clusterId: "c1",
    findMember: (nodeId) => known.get(nodeId),
    hasTable: () => false,
    readmit: () => undefined,
    forgetOrigin: (origin, time) => replica.forgetOrigin(origin, time),
  });
  const shown = () => [...replica.origins.values()].map(({ id, life }) => `${id} ${life}`);
  const names = (events: readonly FabricEvent[]) => events.map(({ name, detail }) => `${name} ${detail["nodeId"]} ${detail["why"]}`);
  const start = { monoMs: 1000, wallMs: 1_000_000 };
  lives.resume(new Map([["n2/1", start.monoMs]]), start.monoMs + 5000);
  const events: FabricEvent[] = [];
  lives.tick(start, events);
  expect(shown()).toEqual(["n1/1 live", "n2/1 orphaned", "n3/1 live", "n4/1 live"]);
  expect(lives.isAnybodyAway).toBe(true);
  // News of one member is no table: the others may still be in it.
  known.set("n3", memberOf("n3", { status: "dead" }));
  lives.memberChanged(memberOf("n3"));
  lives.tick({ ...start, monoMs: 2000 }, events);
  expect(shown()).toEqual(["n1/1 live", "n2/1 orphaned", "n3/1 orphaned", "n4/1 live"]);
  expect(lives.nextDeadlineMs()).toBe(6000);
  lives.tick({ ...start, monoMs: 5999 }, events);
  expect(shown()[3]).toBe("n4/1 live");
  lives.tick({ ...start, monoMs: 6000 }, events);
  expect(shown()[3]).toBe("n4/1 orphaned");
  expect(names(events)).toEqual(["origin_orphaned n3 dead", "origin_orphaned n4 unknown"]);
});

test("when the first table has come, whoever is dead in it or not in it is away, and has not vanished now", () => {
  const [n1, n2, n3, n4] = ["n1", "n2", "n3", "n4"].map((id) => new MeshNode(id)) as [MeshNode, MeshNode, MeshNode, MeshNode];
  for (const [i, node] of [n2, n3, n4].entries()) {
    node.put(KEYS[i]!, 0, timeOf(0, 0));
    node.commit(timeOf(0, 0));
    n1.copy(node, node.replica.self.id, timeOf(0, 0));
  }
  const { replica } = n1;
  const known = new Map<string, MemberUpdate>();
  const lives = new Lives(LIVES_DEFAULTS, {
    replica,
    clusterId: "c1",
    findMember: (nodeId) => known.get(nodeId),
    hasTable: () => known.size > 0,
    readmit: () => undefined,
    forgetOrigin: () => undefined,
  });
  lives.resume(new Map(), 10_000);
  lives.tick({ monoMs: 1000, wallMs: 0 }, []);
  expect(lives.counts()).toEqual({ live: 3, orphaned: 0, hidden: 0 });
  for (const nodeId of ["n2", "n3"]) known.set(nodeId, memberOf(nodeId, { status: "dead" }));
  lives.memberChanged(memberOf("n2", { status: "dead" }));
  lives.tick({ monoMs: 2000, wallMs: 0 }, []);
  expect(lives.counts()).toEqual({ live: 0, orphaned: 3, hidden: 0 });
  expect(lives.protectedClusters()).toEqual([]);
});
