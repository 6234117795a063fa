/** A cluster changes its signing key while real node machines show its summaries in another region (docs/design/summaries.md, Changing a key). */
import { expect, test } from "vitest";
import { Rng } from "../../src/lib/rng.ts";
import { signAnnouncement } from "../../src/signing/codec.ts";
import { CONTEXT } from "../../src/signing/signer.ts";
import { encodeBeacon } from "../../src/summary/codec.ts";
import { some } from "../fakes/effort.ts";
import { signingKey } from "../fakes/signing-keys.ts";
import { Regions } from "./regions/world.ts";
import { WALL_START_MS } from "./sim-node.ts";

const LINKED_MS = 8000;
const MINUTE = 60_000;
/** The keys that the world gives to eu1 and us1, and the next one of eu1. */
const [OLD, OF_US, NEW] = [signingKey(1), signingKey(2), signingKey(9)];
const row = (cluster: string, region: string, { publicKey }: typeof OLD) => ({ cluster, region, publicKey: publicKey.raw });
const US = row("us1", "us", OF_US);
const ANNOUNCED = signAnnouncement({
  cluster: "eu1",
  key: NEW,
  by: OLD,
  notBeforeWallMs: WALL_START_MS,
  notAfterWallMs: WALL_START_MS + 10 * MINUTE,
});

/** The order in which the nodes of eu1 get the new key, and when its announcement is told. */
interface Order {
  readonly seed: number;
  readonly announcedMs: number;
  readonly keyMs: readonly [number, number];
}

/** Returns what was wrong. */
function changed({ seed, announcedMs, keyMs }: Order, until: "shown" | "hidden"): readonly string[] {
  const regions = new Regions(`keys/${seed}`, { eu: { eu1: 2 }, us: { us1: 1 } });
  const rng = new Rng(`keys/${seed}`);
  const [a, b] = [...regions.nodesOf("eu1")].toSorted(() => rng.int(2) - 0.5);
  if (a === undefined || b === undefined) throw new Error("the cluster has two nodes");
  const expected = Array.from({ length: 6 }, (_, i) => `eu1 svc/s${i}`);
  const reload = (nodes: readonly (typeof a)[], of: Parameters<NonNullable<typeof a.options.regional>["reload"]>[0]) => {
    for (const node of nodes)
      node.enqueue(() => node.options.regional?.reload(of, node.process?.time() ?? { monoMs: 0, wallMs: WALL_START_MS }));
  };
  regions.start();
  for (const [i] of expected.entries()) regions.at(LINKED_MS, () => regions.put(i % 2 === 0 ? "eu1-a" : "eu1-b", `s${i}`));
  // One is withdrawn before, and must stay away.
  regions.at(LINKED_MS, () => regions.put("eu1-a", "gone"));
  regions.at(LINKED_MS + 2000, () => regions.end("eu1-a", "gone"));
  const changeMs = LINKED_MS + 8000;
  regions.at(changeMs + announcedMs, () => reload([a, b], { announced: [ANNOUNCED] }));
  for (const [i, node] of [a, b].entries()) regions.at(changeMs + (keyMs[i] ?? 0), () => reload([node], { key: NEW }));
  const all = [...regions.nodes.values()];
  const doneMs = changeMs + Math.max(announcedMs, ...keyMs) + (until === "shown" ? 4000 : 40_000);
  const lookMs = until === "shown" ? changeMs : doneMs;
  // The old key goes at the others, and then in its own cluster.
  const rows = [row("eu1", "eu", NEW), US];
  regions.at(doneMs, () => reload(regions.nodesOf("us1"), { rows }));
  regions.at(doneMs + 5000, () => reload([a, b], { rows, announced: [] }));
  regions.watch(lookMs, doneMs + 10_000, () => regions.differs(all, expected), 500);
  return regions.run(doneMs + 11_000);
}

test.each(some([1, 2, 3]))("announced first: every summary stays in sight while the key changes, node after node (seed %i)", (seed) => {
  expect(changed({ seed, announcedMs: 0, keyMs: [3000, 6000 + 500 * seed] }, "shown")).toEqual([]);
});

test.each(some([1, 2]))(
  "in use before its announcement came: all are shown in the end, and stay when the old key goes (seed %i)",
  (seed) => {
    expect(changed({ seed, announcedMs: 4000, keyMs: [0, 1000 * seed] }, "hidden")).toEqual([]);
  },
);

test("a stolen key that was removed holds back nothing that its cluster says, at any node of another region", () => {
  const stolen = signingKey(11);
  const regions = new Regions("keys/stolen", { eu: { eu1: 1 }, us: { us1: 3 } });
  const us = regions.nodesOf("us1");
  const [first] = us;
  const rows = [row("eu1", "eu", OLD), US];
  const reload = (keys: typeof rows) => {
    for (const node of us)
      node.enqueue(() => node.options.regional?.reload({ rows: keys }, node.process?.time() ?? { monoMs: 0, wallMs: WALL_START_MS }));
  };
  regions.start();
  regions.at(4000, () => reload([...rows, row("eu1", "eu", stolen)]));
  regions.at(LINKED_MS, () => regions.put("eu1-a", "quotes"));
  const forgedMs = LINKED_MS + 10_000;
  regions.look(forgedMs - 100, () => regions.differs(us, ["eu1 svc/quotes"]));
  regions.at(forgedMs, () =>
    first?.enqueue(() => {
      const time = first.process?.time() ?? { monoMs: 0, wallMs: WALL_START_MS };
      const made = { version: 2 ** 51, exporter: "eu1-a", keyId: stolen.keyId, ttlMs: 12_000, generatedWallMs: time.wallMs };
      const signed = encodeBeacon({ source: "eu1", region: "eu", ...made, ingress: [], withdrawals: [] });
      const seal = { signed, signature: stolen.sign(CONTEXT.BEACON, signed), hops: 0 };
      const taken = first.process?.rooms.regions?.held.takeBeacon(seal, { cluster: "eu1", region: "eu" }, time, 0);
      if (taken?.kind !== "taken") regions.wrong.push(`the forged beacon is ${taken?.kind}`);
      first.process?.arm();
    }),
  );
  const removedMs = forgedMs + 10_000;
  regions.at(removedMs, () => reload(rows));
  regions.watch(removedMs + 6000, removedMs + 60_000, () => regions.differs(us, ["eu1 svc/quotes"]));
  expect(regions.run(removedMs + 60_500)).toEqual([]);
});

test("an announcement that waited for the key above it reaches the nodes of the region that have no border link", () => {
  const regions = new Regions("keys/waited", { eu: { eu1: 1 }, us: { us1: 5 } });
  const us = regions.nodesOf("us1");
  const [eu] = regions.nodesOf("eu1");
  const reload = (
    node: (typeof us)[number] | undefined,
    of: Parameters<NonNullable<(typeof us)[number]["options"]["regional"]>["reload"]>[0],
  ) => node?.enqueue(() => node.options.regional?.reload(of, node.process?.time() ?? { monoMs: 0, wallMs: WALL_START_MS }));
  const isLinked = ({ process }: (typeof us)[number]) => process?.fabric.borders.rows.some(({ state }) => state === "up") === true;
  regions.start();
  // They know a key of the cluster, and not the one that announces.
  regions.at(2000, () => {
    for (const node of us) reload(node, { rows: [row("eu1", "eu", signingKey(11)), US] });
  });
  regions.at(3000, () => reload(eu, { key: NEW, announced: [ANNOUNCED] }));
  regions.at(LINKED_MS, () => regions.put("eu1-a", "quotes"));
  const trustedMs = LINKED_MS + 10_000;
  regions.look(trustedMs - 100, () => [...(us.every(isLinked) ? ["all have links"] : []), ...regions.differs(us, [])]);
  regions.at(trustedMs, () => {
    for (const node of us) reload(node, { rows: [row("eu1", "eu", OLD), US] });
  });
  regions.watch(trustedMs + 8000, trustedMs + 20_000, () => regions.differs(us, ["eu1 svc/quotes"]));
  expect(regions.run(trustedMs + 20_500)).toEqual([]);
});
