/** Channels of rooms above the fabric, and frames that no channel of a link receives. */
import { expect, test } from "vitest";
import type { LinkChannel } from "../../src/fabric/links/channel.ts";
import type { LinkFrame } from "../../src/fabric/wire/messages.ts";
import { NEVER } from "../../src/lib/machine.ts";
import { FabricWorld, type NodeSpec, type WorldNode } from "../fakes/fabric-world.ts";

/** A frame of a kind that only this channel knows. A room above brings its frame into the union; here is none. */
const PING = { kind: "ping" } as unknown as Extract<LinkFrame, { kind: "unknown" }>;

class Pings implements LinkChannel {
  readonly kinds = [PING.kind];
  readonly speaks = "in turn";
  readonly seen: string[] = [];
  readonly #count: number;

  /** It says so many on each link, whether or not the peer has such a channel. */
  constructor(count: number) {
    this.#count = count;
  }

  open: LinkChannel["open"] = (_link, { hello }) => {
    this.seen.push(`${hello.nodeId} up`);
    let left = this.#count;
    return {
      next: () => (left-- > 0 ? PING : undefined),
      receive: ({ kind }) => {
        this.seen.push(`${hello.nodeId} ${kind}`);
        return [];
      },
      hasWork: () => left > 0,
      tick: () => {},
      nextDeadlineMs: () => NEVER,
      isCaughtUp: true,
    };
  };

  closed(): void {
    this.seen.push("down");
  }
}

function linked(a: Partial<NodeSpec>, b: Partial<NodeSpec>): { readonly world: FabricWorld; readonly a: WorldNode; readonly b: WorldNode } {
  const world = new FabricWorld();
  const nodes = { a: world.start({ nodeId: "a", ...a }), b: world.start({ nodeId: "b", seeds: ["a:1"], ...b }) };
  world.runUntil(() => nodes.a.upLinks().length === 1 && nodes.b.fabric.readiness.isReady, 10_000);
  world.run(1000);
  return { world, ...nodes };
}

test("a channel that is given to the fabric is opened on each link and closed with it, and is given its frames", () => {
  const [ofA, ofB] = [new Pings(1), new Pings(2)];
  const { world, a, b } = linked({ channels: [ofA] }, { channels: [ofB] });
  expect([ofA.seen, ofB.seen]).toEqual([
    ["b up", "b ping", "b ping"],
    ["a up", "a ping"],
  ]);
  // The node's own channels are there as without it.
  b.put("shop");
  world.runUntil(() => a.view().includes("shop"));
  world.kill(b);
  world.run(100);
  expect(ofA.seen.at(-1)).toBe("down");
});

test("frames that no channel of a link receives are skipped and counted, and told once a link", () => {
  const { world, a, b } = linked({}, { channels: [new Pings(3)] });
  const told = () =>
    a.events.filter(({ name }) => name === "frames_skipped").map(({ severity, detail }) => ({ severity, ...detail, link: 0 }));
  const one = { severity: "info", nodeId: "b", link: 0, version: "1", frame: "ping" };
  expect([a.fabric.refused().unknownFrame, told(), a.upLinks()]).toEqual([3, [one], ["b"]]);
  world.cut(a, b);
  world.runUntil(() => a.fabric.refused().unknownFrame === 6, 60_000);
  expect([told(), b.fabric.refused().unknownFrame]).toEqual([[one, one], 0]);
});

test("a frame for a channel that is not open on the link is skipped too: hand-over between clusters", () => {
  const { world, a, b } = linked({}, { clusterId: "c2" });
  const link = a.fabric.links().find(({ nodeId }) => nodeId === "b")?.link ?? 0;
  world.input(a, { kind: "received", link, frame: { kind: "handOver", seqs: [], isRefused: false } });
  expect([a.fabric.refused().unknownFrame, a.events.at(-1)]).toMatchObject([1, { name: "frames_skipped", detail: { frame: "handOver" } }]);
  expect([a.upLinks(), b.upLinks()]).toEqual([["b"], ["a"]]);
});

test("no channel takes the frames of another", () => {
  class Thief extends Pings {
    override readonly kinds = ["records" as never];
  }
  expect(() => new FabricWorld().start({ nodeId: "a", channels: [new Thief(0)] })).toThrow("two channels receive frames of the same kind");
});
