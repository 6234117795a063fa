/** Border links between fabrics of several regions: which there are, who is refused and told why, and that nothing else crosses. */
import { describe, expect, test } from "vitest";
import type { Border } from "../../../src/fabric/borders/border.ts";
import type { Hello, LinkFrame, PeerIdentity } from "../../../src/fabric/wire/messages.ts";
import { FabricWorld, greetingOf, type NodeSpec, type WorldNode } from "../../fakes/fabric-world.ts";

const TOKEN = "the-token-of-this-border";

function borderTo(clusterId: string, region: string, addresses: readonly string[], more: Partial<Border> = {}): Border {
  const trust = { kind: "token", token: TOKEN } as const;
  return { clusterId, region, addresses, trust, imports: ["*"], exports: ["*"], batchIntervalMs: 100, bytesPerSecond: 0, ...more };
}

interface Place {
  readonly region: string;
  readonly clusterId: string;
  readonly nodeIds: readonly string[];
}

/** So many nodes in each cluster: `eu1a`, `eu1b`, … of cluster `eu1` in region `eu`. */
function placesOf(regions: readonly string[], clusterCount: number, nodeCount: number): readonly Place[] {
  return regions.flatMap((region) =>
    Array.from({ length: clusterCount }, (_, i) => {
      const clusterId = `${region}${i + 1}`;
      return { region, clusterId, nodeIds: ["a", "b", "c"].slice(0, nodeCount).map((letter) => `${clusterId}${letter}`) };
    }),
  );
}

function addressesOf({ nodeIds }: Place): readonly string[] {
  return nodeIds.map((nodeId) => `${nodeId}:1`);
}

/** Every node of every place, with a border to every cluster of the other regions. */
function start(world: FabricWorld, places: readonly Place[], more: (place: Place) => Partial<NodeSpec> = () => ({})): readonly WorldNode[] {
  return places.flatMap((place) => {
    const { region, clusterId, nodeIds } = place;
    const seeds = places.filter((other) => other.region === region).flatMap(addressesOf);
    const borders = places
      .filter((other) => other.region !== region)
      .map((other) => borderTo(other.clusterId, other.region, addressesOf(other)));
    return nodeIds.map((nodeId) => world.start({ nodeId, region, clusterId, seeds, borders, ...more(place) }));
  });
}

/** The border links that are up, `opener>other`, sorted. */
function linked(nodes: readonly WorldNode[]): readonly string[] {
  const up = nodes.flatMap((node) =>
    node.fabric.borders.rows.flatMap(({ state, isIncoming, nodeId }) =>
      state === "up" && !isIncoming && !node.isDead ? [`${node.spec.nodeId}>${nodeId}`] : [],
    ),
  );
  return up.toSorted();
}

function clustersIn(links: readonly string[], side: 0 | 1): readonly string[] {
  return [...new Set(links.map((link) => link.split(">")[side]?.slice(0, -1) ?? ""))].toSorted();
}

function events(node: WorldNode, name: string): readonly Readonly<Record<string, string | number>>[] {
  return node.events.flatMap((event) => (event.name === name ? [event.detail] : []));
}

describe("which links", () => {
  test("two nodes that name each other have one link, opened by the region with the smaller name", () => {
    const world = new FabricWorld();
    const nodes = start(world, placesOf(["us", "eu"], 1, 1));
    world.run(30_000);
    expect(linked(nodes)).toEqual(["eu1a>us1a"]);
    expect(
      nodes.map((node) => node.fabric.borders.rows.map(({ clusterId, region, nodeId }) => `${clusterId} ${region} ${nodeId}`)),
    ).toEqual([["eu1 eu eu1a"], ["us1 us us1a"]]);
  });

  test.each([
    { clusters: 1, nodes: 3, want: 2 },
    { clusters: 2, nodes: 3, want: 2 },
    { clusters: 3, nodes: 2, want: 3 },
    { clusters: 4, nodes: 1, want: 4 },
    { clusters: 6, nodes: 1, want: 4 },
  ])(
    "$clusters clusters of $nodes nodes in each of two regions have $want links, of as many clusters as can be",
    ({ clusters, nodes, want }) => {
      const world = new FabricWorld();
      const all = start(world, placesOf(["eu", "us"], clusters, nodes));
      world.run(25_000);
      const links = linked(all);
      expect(links).toHaveLength(want);
      expect(clustersIn(links, 0)).toHaveLength(Math.min(clusters, want));
      expect(clustersIn(links, 1)).toHaveLength(Math.min(clusters, want));
      expect(links.every((link) => link.startsWith("eu"))).toBe(true);
    },
  );

  test("three regions have links in pairs, and never two between the same nodes", () => {
    const world = new FabricWorld();
    const all = start(world, placesOf(["eu", "us", "ap"], 2, 3));
    world.run(20_000);
    const links = linked(all);
    for (const pair of ["ap eu", "ap us", "eu us"]) {
      const [from = "", to = ""] = pair.split(" ");
      expect(links.filter((link) => link.startsWith(from) && link.includes(`>${to}`))).toHaveLength(2);
    }
    expect(links).toHaveLength(6);
  });
});

describe("what happens to them", () => {
  test("a link whose node dies is replaced within seconds, whichever side it was", () => {
    for (const side of [0, 1] as const) {
      const world = new FabricWorld();
      const all = start(world, placesOf(["eu", "us"], 2, 3));
      world.run(30_000);
      const victim = linked(all)[0]?.split(">")[side] ?? "";
      const node = all.find(({ spec }) => spec.nodeId === victim);
      if (node === undefined) throw new Error("no such link");
      world.kill(node);
      expect(world.runUntil(() => linked(all).filter((link) => !link.includes(victim)).length === 2)).toBeLessThan(
        side === 0 ? 12_000 : 1000,
      );
      world.run(100_000);
      expect(linked(all)).toHaveLength(2);
    }
  });

  test("the other side opens links when the first one cannot, and ends its own when both have opened some", () => {
    const world = new FabricWorld();
    const all = start(world, placesOf(["eu", "us"], 1, 3), ({ region }) => ({
      ...(region === "eu" && { borders: [borderTo("us1", "us", [])] }),
    }));
    world.run(30_000);
    expect(linked(all).every((link) => link.startsWith("us"))).toBe(true);
    expect(linked(all)).toHaveLength(2);
    const other = new FabricWorld();
    const nodes = start(other, placesOf(["eu", "us"], 1, 3));
    other.reaches = (from, to) => from.spec.region === to.spec.region || from.spec.region === "us";
    other.run(20_000);
    other.reaches = () => true;
    other.run(200_000);
    expect(linked(nodes)).toHaveLength(2);
  });

  /** What one side is given as addresses of the other, and the links that there are after ten minutes. */
  test.each<{
    readonly what: string;
    readonly eu: readonly string[];
    readonly us: readonly string[];
    readonly nodes?: readonly [number, number];
    readonly want: readonly string[];
    /** Links that came up and were given up for another one, while the nodes learned where the addresses lead. */
    readonly swaps?: number;
  }>([
    { what: "one node a side, both with addresses", eu: ["us1a:1"], us: ["eu1a:1"], want: ["eu1a>us1a"] },
    { what: "one node a side, of which one has addresses", eu: [], us: ["eu1a:1"], want: ["us1a>eu1a"] },
    { what: "one node a side by names that it does not say itself", eu: ["us-name:1"], us: ["eu-name:1"], want: ["eu1a>us1a"] },
    {
      what: "two names of one node, both sides",
      eu: ["us1a:1", "us-name:1"],
      us: ["eu-name:1", "eu1a:1"],
      want: ["eu1a>us1a"],
      swaps: 1,
    },
    { what: "two names of one node, one side", eu: [], us: ["eu-name:1", "eu1a:1"], want: ["us1a>eu1a"], swaps: 1 },
    { what: "two nodes and one", eu: ["us1a:1"], us: ["eu1a:1", "eu1b:1"], nodes: [2, 1], want: ["eu1a>us1a", "eu1b>us1a"] },
    { what: "one node and two", eu: ["us1a:1", "us1b:1"], us: ["eu1a:1"], nodes: [1, 2], want: ["eu1a>us1a", "eu1a>us1b"] },
    { what: "one node and two, of which it knows one", eu: ["us1a:1"], us: ["eu1a:1"], nodes: [1, 2], want: ["eu1a>us1a", "us1b>eu1a"] },
  ])("no link flaps: $what", ({ eu, us, nodes: [euCount, usCount] = [1, 1], want, swaps = 0 }) => {
    for (const hasCertificate of [false, true]) {
      const world = new FabricWorld();
      const trust = hasCertificate ? ({ trust: { kind: "authority" } } as const) : {};
      const places = [...placesOf(["eu"], 1, euCount), ...placesOf(["us"], 1, usCount)];
      const all = start(world, places, ({ region }) => ({
        hasCertificate,
        borders: [region === "eu" ? borderTo("us1", "us", eu, trust) : borderTo("eu1", "eu", us, trust)],
      }));
      for (const node of all) if (node.spec.nodeId.endsWith("a")) world.nodes.set(`${node.facts.region}-name:1`, node);
      world.run(60_000);
      const swapped = hasCertificate ? 0 : swaps;
      const lost = () => all.map((node) => events(node, "border_lost").length);
      expect(linked(all)).toEqual(want);
      expect(Math.max(...lost())).toBeLessThanOrEqual(swapped);
      const opened = () => all.reduce((count, { outputs }) => count + outputs.filter(({ kind }) => kind === "open").length, 0);
      const before = [lost(), opened()];
      world.run(600_000);
      expect([lost(), opened(), linked(all)]).toEqual([...before, want]);
    }
  });

  test("an address is tried at lengthening times, and a wrong one does not keep the others from being tried", () => {
    const world = new FabricWorld();
    const addresses = ["gone1:1", "gone2:1", "us1a:1", "gone3:1"];
    const eu = world.start({ nodeId: "eu1a", region: "eu", clusterId: "eu1", borders: [borderTo("us1", "us", addresses)] });
    world.run(60_000);
    const opens = () => eu.outputs.filter(({ kind }) => kind === "open").length;
    expect(opens()).toBeLessThan(4 * 30);
    const us = world.start({ nodeId: "us1a", region: "us", clusterId: "us1", borders: [borderTo("eu1", "eu", ["eu1a:1"])] });
    expect(world.runUntil(() => linked([eu, us]).length === 1)).toBeLessThan(11_000);
  });

  test("a link that lasts is opened again within a second each time that it breaks, however often it broke", () => {
    const world = new FabricWorld();
    const nodes = start(world, placesOf(["eu", "us"], 1, 1));
    const [eu, us] = nodes as [WorldNode, WorldNode];
    const waitsMs = Array.from({ length: 12 }, () => {
      world.run(30_000);
      expect(linked(nodes)).toEqual(["eu1a>us1a"]);
      world.cut(eu, us);
      world.run(10);
      expect(linked(nodes)).toEqual([]);
      return world.runUntil(() => linked(nodes).length === 1);
    });
    expect(Math.max(...waitsMs)).toBeLessThan(1000);
  });

  test("a node that stops says goodbye on its border links", () => {
    const world = new FabricWorld();
    const [eu, us] = start(world, placesOf(["eu", "us"], 1, 1));
    if (eu === undefined || us === undefined) throw new Error("two nodes");
    world.run(20_000);
    world.input(us, { kind: "stop", reason: "leave" });
    world.runUntil(() => us.fabric.isStopped(world.time()));
    world.run(100);
    expect(events(eu, "border_lost").map(({ detail }) => detail)).toEqual(["leave"]);
  });

  test.each(["leave", "restart"] as const)(
    "the links of a node that stops (%s) are replaced within a second, whichever side it was",
    (reason) => {
      for (const side of [0, 1] as const) {
        const world = new FabricWorld();
        const all = start(world, placesOf(["eu", "us"], 2, 3));
        world.run(30_000);
        const leaver = linked(all)[0]?.split(">")[side] ?? "";
        const node = all.find(({ spec }) => spec.nodeId === leaver);
        if (node === undefined) throw new Error("no such link");
        world.input(node, { kind: "stop", reason });
        world.runUntil(() => node.fabric.isStopped(world.time()));
        world.run(100);
        world.kill(node);
        expect(world.runUntil(() => linked(all).filter((link) => !link.includes(leaver)).length === 2)).toBeLessThan(1000);
      }
    },
  );

  test("who greets a node that stops is told so, and tries again soon", () => {
    const world = new FabricWorld();
    const [place, far] = placesOf(["eu", "us"], 1, 1);
    if (place === undefined || far === undefined) throw new Error("two places");
    const eu = world.start({ nodeId: "eu1a", region: "eu", clusterId: "eu1", borders: [borderTo("us1", "us", addressesOf(far))] });
    // It opens no links itself.
    const spec = { nodeId: "us1a", region: "us", clusterId: "us1", borders: [borderTo("eu1", "eu", [])] };
    const us = world.start(spec);
    world.run(20_000);
    world.input(us, { kind: "stop", reason: "restart" });
    world.run(3000);
    expect([...new Set(events(eu, "border_refused_by_peer").map(({ detail }) => detail))]).toEqual(["restart this node is stopping"]);
    world.kill(us);
    const again = world.start(spec);
    expect(world.runUntil(() => linked([eu, again]).length === 1, 60_000)).toBeLessThan(11_000);
  });
});

describe("who is refused", () => {
  /** A node of region `eu` with a border to `us1`, and what it answers to a stranger that greets it so. */
  function answerTo(hello: Partial<Hello>, identity: Partial<PeerIdentity> = {}, more: Partial<NodeSpec> = {}) {
    const world = new FabricWorld();
    const node = world.start({ nodeId: "eu1a", region: "eu", clusterId: "eu1", borders: [borderTo("us1", "us", [])], ...more });
    world.run(10_000);
    const link = world.strangerOpens(node, identity);
    const greeting = greetingOf("us1a", {
      clusterId: "us1",
      region: "us",
      clusterToken: TOKEN,
      borderTo: "eu1",
      ...hello,
    });
    world.input(node, { kind: "received", link, frame: { kind: "hello", hello: greeting } });
    const said: LinkFrame[] = [];
    for (let frame = node.fabric.pull(link, world.time(), []); frame !== undefined; frame = node.fabric.pull(link, world.time(), []))
      said.push(frame);
    const [first] = said;
    const answer = first?.kind === "goodbye" ? `${first.reason}: ${first.detail}` : (first?.kind ?? "nothing");
    return { node, answer, told: [...events(node, "border_refused"), ...events(node, "peer_refused")] };
  }

  const BY_CERTIFICATE = { borders: [borderTo("us1", "us", [], { trust: { kind: "authority" } })] };
  const CERTIFICATE = { certificate: { nodeId: "us1a", clusterId: "us1" } };

  test.each<[string, string, Partial<Hello>, Partial<PeerIdentity>?, Partial<NodeSpec>?]>([
    ["the neighbour", "hello", {}],
    [
      "a neighbour with the second token",
      "hello",
      { clusterToken: "b" },
      {},
      { borders: [borderTo("us1", "us", [], { trust: { kind: "token", token: "a", otherToken: "b" } })] },
    ],
    [
      "one with a third token, where there are two",
      "wrong_token: shows another token than that of border us1, or none",
      { clusterToken: "c" },
      {},
      { borders: [borderTo("us1", "us", [], { trust: { kind: "token", token: "a", otherToken: "b" } })] },
    ],
    [
      "a cluster that no border names",
      'wrong_cluster: no border of cluster eu1 names cluster us2 of region us; to let it in, add to fabric.borders { cluster_id = "us2", region = "us", ... }',
      { clusterId: "us2" },
    ],
    [
      "a cluster of the same region",
      "wrong_cluster: cluster eu2 is in region eu too; within a region fabric.clusters lets it in",
      { clusterId: "eu2", region: "eu" },
    ],
    ["one that means another cluster", "wrong_cluster: means cluster eu9, and this is cluster eu1", { borderTo: "eu9" }],
    [
      "one that claims another region",
      "other_region: cluster us1 says that it is in region ap; fabric.borders has it in us",
      { region: "ap" },
    ],
    ["one of a later protocol", "incompatible: speaks 7, not 2", { protocolVersions: [7] }],
    [
      "one with the token of our own members",
      "wrong_token: shows another token than that of border us1, or none",
      { clusterToken: "secret" },
    ],
    ["one with the token, of another machine", "wrong_identity: the token of border us1 is for loopback only", {}, { isLoopback: false }],
    ["one without a certificate", "wrong_identity: shows no certificate of the authority of border us1", {}, {}, BY_CERTIFICATE],
    [
      "one with a certificate of our own authority",
      "wrong_identity: shows no certificate of the authority of border us1",
      {},
      CERTIFICATE,
      BY_CERTIFICATE,
    ],
    [
      "one with a certificate of another border's authority",
      "wrong_identity: shows no certificate of the authority of border us1",
      {},
      { ...CERTIFICATE, border: "ap1" },
      BY_CERTIFICATE,
    ],
    [
      "one whose certificate is of another cluster",
      "wrong_identity: its certificate is of cluster us2, not of border us1",
      {},
      { certificate: { nodeId: "us1a", clusterId: "us2" }, border: "us1" },
      BY_CERTIFICATE,
    ],
    [
      "one whose certificate is of another node",
      "wrong_identity: claims to be us1a; its certificate is of us1b",
      {},
      { certificate: { nodeId: "us1b", clusterId: "us1" }, border: "us1" },
      BY_CERTIFICATE,
    ],
    ["the neighbour by certificate", "hello", { clusterToken: "" }, { ...CERTIFICATE, border: "us1" }, BY_CERTIFICATE],
    [
      "a member of ours that came by the gate of a border",
      "wrong_cluster: cluster eu1 is in region eu too; within a region fabric.clusters lets it in",
      { clusterId: "eu1", region: "eu", nodeId: "eu1b" },
      { certificate: { nodeId: "eu1b", clusterId: "eu1" }, border: "us1" },
      BY_CERTIFICATE,
    ],
  ])("%s hears %s", (_who, want, hello, identity = {}, more = {}) => {
    const { answer, told, node } = answerTo(hello, identity, more);
    expect(answer).toBe(want);
    expect(told.map(({ reason, detail }) => `${reason}: ${detail}`)).toEqual(want === "hello" ? [] : [want]);
    expect(node.fabric.links()).toEqual([]);
    expect(node.fabric.membership.members().map(({ nodeId }) => nodeId)).toEqual(["eu1a"]);
  });

  test("who came by the gate of a border is refused as a member and as a caller, whatever cluster its certificate names", () => {
    const certificate = { nodeId: "eu1b", clusterId: "eu1" };
    const { borderTo: _borderTo, ...member } = greetingOf("eu1b", { clusterId: "eu1", region: "eu" });
    const world = new FabricWorld();
    const node = world.start({ nodeId: "eu1a", region: "eu", clusterId: "eu1", ...BY_CERTIFICATE });
    world.run(10_000);
    const link = world.strangerOpens(node, { certificate, border: "us1" });
    world.input(node, { kind: "received", link, frame: { kind: "hello", hello: member } });
    expect(node.fabric.pull(link, world.time(), [])).toMatchObject({ kind: "goodbye", reason: "wrong_cluster" });
    const identity = { address: "9.9.9.9:9", isLoopback: true, certificate, clusterToken: "secret", border: "us1" };
    expect(node.fabric.calls.isStranger(identity)).toBe(true);
    expect(node.fabric.calls.isStranger({ ...identity, border: undefined } as never)).toBe(false);
  });
});

describe("faults", () => {
  test("a cluster that is split has links from both halves, and as many as before when it is whole again", () => {
    const world = new FabricWorld();
    const all = start(world, placesOf(["eu", "us"], 1, 3));
    const [a] = all;
    world.run(30_000);
    world.reaches = (from, to) => from.spec.region !== to.spec.region || from.spec.region === "us" || (from === a) === (to === a);
    for (const other of all.slice(1, 3)) if (a !== undefined) world.cut(a, other);
    world.run(120_000);
    expect(new Set(linked(all).map((link) => link.startsWith("eu1a")))).toEqual(new Set([true, false]));
    expect(linked(all).length).toBeLessThanOrEqual(4);
    world.reaches = () => true;
    world.run(150_000);
    expect(linked(all)).toHaveLength(2);
  });

  test("spokes whose hub is lost have no link to each other, and have theirs to the hub seconds after it is back", () => {
    const world = new FabricWorld();
    const places = placesOf(["hub", "east", "west"], 1, 2);
    const toHub = [borderTo("hub1", "hub", ["hub1a:1", "hub1b:1"])];
    const nodes = start(world, places, ({ region }) => (region === "hub" ? {} : { borders: toHub }));
    world.run(30_000);
    const isOfHub = (link: string) => link.includes("hub1");
    expect(linked(nodes).filter(isOfHub)).toHaveLength(4);
    const hub = nodes.filter(({ spec }) => spec.region === "hub");
    for (const node of hub) world.kill(node);
    world.run(60_000);
    expect(linked(nodes)).toEqual([]);
    const again = hub.map((node) => world.start({ ...node.spec, generation: 2 }));
    const alive = [...nodes.filter((node) => !node.isDead), ...again];
    expect(world.runUntil(() => linked(alive).length === 4)).toBeLessThan(20_000);
    expect(linked(alive).every(isOfHub)).toBe(true);
    world.run(5000);
    const regionsOf = ({ fabric }: WorldNode) => [...fabric.borders.linkedRegions()].toSorted().join(" ");
    expect(new Set(alive.map((node) => `${node.spec.region}: ${regionsOf(node)}`))).toEqual(
      new Set(["hub: east west", "east: hub", "west: hub"]),
    );
  });

  test.each(["eu", "us"])("another cluster of %s that claims all links for itself does not keep ours without one", (region) => {
    const world = new FabricWorld();
    const other = region === "eu" ? "us" : "eu";
    const liar = world.start({ nodeId: "liar", clusterId: "n2", region, seeds: ["n1a:1"] });
    world.input(liar, { kind: "facts", facts: { ...liar.facts, borders: [{ region: other, links: 1000 }] } });
    const node = world.start({ nodeId: "n1a", clusterId: "n1", region, seeds: ["liar:1"], borders: [borderTo("f1", other, ["f1a:1"])] });
    const far = world.start({ nodeId: "f1a", clusterId: "f1", region: other, borders: [borderTo("n1", region, ["n1a:1"])] });
    world.run(40_000);
    expect(node.fabric.membership.find("liar")?.borders).toEqual([{ region: other, links: 1000 }]);
    expect(linked([node, far])).toHaveLength(1);
  });

  test("strangers in crowds, and a crowd of one neighbour, are refused within bounds, few are told of, and another neighbour is let in", () => {
    const world = new FabricWorld();
    const authority = { trust: { kind: "authority" } } as const;
    const node = world.start({
      nodeId: "eu1a",
      region: "eu",
      clusterId: "eu1",
      borders: [borderTo("us1", "us", [], authority), borderTo("ap1", "ap", [], authority)],
    });
    world.run(10_000);
    for (let i = 0; i < 300; i++) {
      // Half of them by the gate, and silent; half of them as anybody, and greeting.
      const link = world.strangerOpens(node, i % 2 === 0 ? { certificate: { nodeId: `s${i}`, clusterId: "us1" }, border: "us1" } : {});
      const hello = greetingOf(`s${i}`, { clusterId: `us${i}`, region: "us", borderTo: "eu1" });
      if (i % 2 === 1) world.input(node, { kind: "received", link, frame: { kind: "hello", hello } });
    }
    // Eight of the gate, and as many refused ones as are answered.
    expect(node.fabric.borders.size).toBe(8 + 32);
    expect(node.fabric.refused().border).toBe(300 - 8);
    expect(events(node, "border_refused").length).toBeLessThanOrEqual(2 * 6);
    const others = world.strangerOpens(node, { certificate: { nodeId: "ap1a", clusterId: "ap1" }, border: "ap1" });
    const hello = greetingOf("ap1a", { clusterId: "ap1", region: "ap", borderTo: "eu1" });
    world.input(node, { kind: "received", link: others, frame: { kind: "hello", hello } });
    expect(node.fabric.borders.rows.filter(({ state }) => state === "up").map(({ nodeId }) => nodeId)).toEqual(["ap1a"]);
    world.run(10_000);
    expect(node.fabric.borders.size).toBe(1);
  });

  test.each([
    { what: "the side that opened the first has lost it", at: "us1", isSecond: true },
    { what: "of two that both opened, that of the region with the smaller name stays", at: "eu1", isSecond: false },
    { what: "a node that has started anew has lost it", at: "eu1", generation: 2, isSecond: true },
  ])("of two links to one node one ends, and a second hello is none: $what", ({ at, generation = 1, isSecond }) => {
    const world = new FabricWorld();
    const all = start(world, placesOf(["us", "eu"], 1, 1));
    world.run(20_000);
    const [node, far] = all.toSorted((a) => (a.facts.clusterId === at ? -1 : 1));
    if (node === undefined || far === undefined) throw new Error("two nodes");
    const { nodeId, clusterId, region } = far.facts;
    const first = node.fabric.borders.rows.find(({ state }) => state === "up")?.link;
    const more = { clusterId, region, generation, clusterToken: TOKEN, borderTo: at };
    const frame = { kind: "hello" as const, hello: greetingOf(nodeId, more) };
    const link = world.strangerOpens(node);
    world.input(node, { kind: "received", link, frame });
    expect(node.fabric.borders.rows.flatMap((row) => (row.state === "up" ? [row.link] : []))).toEqual([isSecond ? link : first]);
    // Who opened one that ends is told whom it met.
    if (!isSecond) expect(node.fabric.pull(link, world.time(), [])).toMatchObject({ kind: "hello", hello: { nodeId: node.facts.nodeId } });
    if (!isSecond) return expect(node.fabric.pull(link, world.time(), [])).toMatchObject({ kind: "goodbye", reason: "duplicate_link" });
    world.input(node, { kind: "received", link, frame });
    expect(events(node, "border_bad_frame").map(({ detail }) => detail)).toEqual(["a second hello"]);
  });

  test("frames of members mean nothing on a border link, nor those of borders between members", () => {
    const world = new FabricWorld();
    const nodes = start(world, placesOf(["eu", "us"], 1, 2));
    world.run(20_000);
    const node = nodes.find(({ fabric }) => fabric.borders.rows.some(({ state }) => state === "up"));
    const border = node?.fabric.borders.rows.find(({ state }) => state === "up");
    const member = node?.fabric.links().find(({ state }) => state === "up");
    if (node === undefined || border === undefined || member === undefined) throw new Error("linked both ways");
    const before = node.fabric.refused().unknownFrame;
    world.input(node, { kind: "received", link: border.link, frame: { kind: "linked", nodeIds: [] } as LinkFrame });
    world.input(node, { kind: "received", link: border.link, frame: { kind: "policyWanted", number: 1 } });
    world.input(node, { kind: "received", link: member.link, frame: { kind: "borderRules", exports: [], directSources: [], reach: [] } });
    expect(node.fabric.refused().unknownFrame - before).toBe(3);
  });

  test("a token that was read anew lets in whom the old one kept out, without a wait", () => {
    const world = new FabricWorld();
    const wrong = [borderTo("eu1", "eu", ["eu1a:1"], { trust: { kind: "token", token: "another-token-than-theirs" } })];
    const [eu, us] = start(world, placesOf(["eu", "us"], 1, 1), ({ region }) => (region === "us" ? { borders: wrong } : {}));
    if (eu === undefined || us === undefined) throw new Error("two nodes");
    world.run(20_000);
    expect([linked([eu, us]), events(us, "border_refused").length > 0]).toEqual([[], true]);
    us.fabric.borders.setBorders([borderTo("eu1", "eu", ["eu1a:1"])]);
    eu.fabric.borders.setBorders([borderTo("us1", "us", ["us1a:1"])]);
    for (const node of [eu, us]) world.input(node, { kind: "tick" });
    world.run(100);
    expect(linked([eu, us])).toEqual(["eu1a>us1a"]);
  });
});
