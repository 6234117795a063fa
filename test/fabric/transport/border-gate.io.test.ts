/** What the certificates of neighbours count for at a real listener: border links by their own gate, and nothing else. */
import { connect, type TLSSocket } from "node:tls";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { clusterAtGate, gateOf } from "../../../src/fabric/transport/border-gate.ts";
import type { FabricTls } from "../../../src/fabric/transport/peer-identity.io.ts";
import type { FabricTransport } from "../../../src/fabric/transport/transport.io.ts";
import { FabricAuthority, type FakeMachine, openTestTransport } from "../../fakes/fabric-transport.ts";
import { nodeRef } from "../../fakes/fabric-values.ts";
import { greetingOf } from "../../fakes/fabric-world.ts";
import { until } from "../../fakes/until.ts";

type Machine = FakeMachine & { readonly transport: FabricTransport };

const own = new FabricAuthority();
const us = new FabricAuthority();
const ap = new FabricAuthority();
/** A neighbour with our own trust domain, whose authority names a node of ours. */
const jp = new FabricAuthority();

/** Of a node in cluster `eu1`, with borders to `us1` and `ap1`. */
function euTls(nodeId: string): FabricTls {
  const borders = [
    { clusterId: "us1", ca: us.ca, trustDomain: "us.example" },
    { clusterId: "ap1", ca: ap.ca, trustDomain: "ap.example" },
    { clusterId: "jp1", ca: jp.ca, trustDomain: "waymark" },
  ];
  return { ...own.issue(nodeId, { clusterId: "eu1" }), borders };
}

/** Of a node elsewhere, whose neighbour is `eu1`. */
function abroad(authority: FabricAuthority, nodeId: string, clusterId: string, domain: string): FabricTls {
  return { ...authority.issue(nodeId, { clusterId, domain }), borders: [{ clusterId: "eu1", ca: own.ca, trustDomain: "waymark" }] };
}

let eu: Machine;
const all: Machine[] = [];

async function opened(tls: FabricTls): Promise<Machine> {
  const machine = await openTestTransport({ tls });
  all.push(machine);
  return machine;
}

beforeAll(async () => {
  eu = await opened(euTls("eu1a"));
});
afterAll(async () => {
  for (const { transport } of all) await transport.stop(0);
});

/** Opens a link to a node and greets; returns what the node was told of who came, or why there is no link. */
async function came(from: Machine, to: Machine, border: string | undefined): Promise<unknown> {
  const before = to.incoming().length;
  const refusedCount = to.refusals.length;
  from.greeting = { kind: "hello", hello: greetingOf("x") };
  from.transport.openLink(-2, to.transport.address, border);
  await until("it came, or not", () => to.incoming().length > before || from.unopened.has(-2));
  const link = to.incoming()[before];
  if (link === undefined) {
    await until("it is told", () => to.refusals.length > refusedCount || from.unopened.has(-2));
    return `none: ${from.unopened.get(-2) ?? ""}`;
  }
  const { certificate, border: gate } = link.proof;
  return `${certificate?.nodeId} of ${certificate?.clusterId} by ${gate ?? "no gate"}`;
}

describe("links", () => {
  test.each<[string, () => FabricTls, string | undefined, string | RegExp]>([
    ["a member comes as before", () => euTls("eu1b"), undefined, "eu1b of eu1 by no gate"],
    ["a neighbour comes by its gate", () => abroad(us, "us1a", "us1", "us.example"), "eu1", "us1a of us1 by us1"],
    ["another neighbour comes by its own", () => abroad(ap, "ap1a", "ap1", "ap.example"), "eu1", "ap1a of ap1 by ap1"],
    [
      "a neighbour that comes as a member is refused",
      () => ({ ...abroad(us, "us1a", "us1", "us.example"), clientCa: own.ca }),
      undefined,
      /^none/,
    ],
    [
      "a neighbour's authority vouches for no member",
      () => ({ ...us.issue("eu1b", { clusterId: "eu1" }), clientCa: own.ca }),
      undefined,
      /^none/,
    ],
    ["nor, by its gate, for a node of another trust domain", () => abroad(us, "us1a", "us1", "waymark"), "eu1", /^none/],
    ["one neighbour's authority does not vouch for another", () => abroad(us, "ap1a", "ap1", "ap.example"), "eu1", /^none/],
    ["a member's certificate is none of a neighbour", () => abroad(own, "us1a", "us1", "us.example"), "eu1", /^none/],
  ])("%s", async (_what, tlsOf, border, want) => {
    const from = await opened(tlsOf());
    const found = await came(from, eu, border);
    if (typeof want === "string") expect(found).toBe(want);
    else expect(found).toMatch(want);
  });

  test("a cluster that has no border here is verified as a member, and comes by no gate", async () => {
    const from = await opened({ ...abroad(own, "us9a", "us9", "waymark"), clientCa: own.ca });
    expect(await came(from, eu, "eu1")).toBe("us9a of us9 by no gate");
    expect(eu.refusals.at(-1)).toBe("a node of cluster us9 requested a border link, but fabric.borders does not name that cluster");
  });

  test("a node is no neighbour to whoever it calls, unless the border's authority and trust domain are its own", async () => {
    const right = await opened(abroad(us, "us1b", "us1", "us.example"));
    const wrong = await opened({
      ...own.issue("us1c", { clusterId: "us1", domain: "us.example" }),
      borders: [{ clusterId: "eu1", ca: own.ca, trustDomain: "waymark" }],
    });
    const from = await opened(euTls("eu1c"));
    from.transport.openLink(-4, right.transport.address, "us1");
    from.transport.openLink(-6, wrong.transport.address, "us1");
    from.transport.openLink(-8, right.transport.address, "zz9");
    await until("all are settled", () => from.links.has(-4) && from.unopened.has(-6) && from.unopened.has(-8));
    expect(from.find(-4).proof).toMatchObject({ certificate: { nodeId: "us1b", clusterId: "us1" }, border: "us1" });
    expect(from.unopened.get(-8)).toBe("no CA is configured for border zz9");
  });
});

test("calls of a neighbour are not heard, neither as a member nor by its gate", async () => {
  const from = await opened({ ...abroad(us, "us1d", "us1", "us.example"), clientCa: own.ca });
  from.transport.call(2, eu.transport.address, { kind: "pushPull", from: nodeRef("us1d"), isJoin: true, members: [] }, 5000);
  await until("there is an answer", () => from.answers.has(2));
  expect(from.answers.get(2)).toBeUndefined();
  expect(eu.asks).toEqual([]);
});

test.each([
  { what: "a neighbour takes its own places at the listener, and none of members or of other neighbours", clusterId: "jp1" },
  { what: "another cluster with the authority of a neighbour takes none of the neighbour's places either", clusterId: "kr1" },
])("$what", async ({ clusterId }) => {
  const crowded = await opened(euTls("eu1x"));
  const { cert, key } = jp.issue("jp1z", { clusterId });
  const sockets = Array.from({ length: 40 }, () => {
    const shown = { cert: Buffer.from(cert), key: Buffer.from(key), servername: gateOf("jp1"), ALPNProtocols: ["h2"] };
    const socket = connect({ host: "127.0.0.1", port: crowded.transport.port, rejectUnauthorized: false, ...shown });
    return socket.on("error", () => {});
  });
  const refused = () => crowded.refusals.filter((why) => why === "too many connections for border jp1").length;
  await until("what is too much is refused", () => refused() === 24 && crowded.transport.counts().connections === 16);
  expect(await came(await opened(abroad(us, "us1x", "us1", "us.example")), crowded, "eu1")).toBe("us1x of us1 by us1");
  expect(await came(await opened(euTls("eu1y")), crowded, undefined)).toBe("eu1y of eu1 by no gate");
  const neighbour = await came(await opened(abroad(jp, "jp1w", "jp1", "waymark")), crowded, "eu1");
  expect(neighbour).toMatch(clusterId === "jp1" ? /^none/ : /^jp1w of jp1 by jp1$/);
  for (const socket of sockets) socket.destroy();
  await until("they are gone", () => crowded.transport.counts().connections === (clusterId === "jp1" ? 2 : 3));
  expect(await came(await opened(abroad(jp, "jp1x", "jp1", "waymark")), crowded, "eu1")).toBe("jp1x of jp1 by jp1");
});

describe("sessions", () => {
  /** Connects with a neighbour's certificate; returns the session, and why the listener refused it, if it did. */
  async function session(
    servername: string,
    resumed?: Buffer,
  ): Promise<{ readonly kept: Buffer | undefined; readonly refusals: readonly string[] }> {
    const { cert, key } = jp.issue("eu1z", { clusterId: "eu1" });
    const port = eu.transport.port;
    const name = servername === "" ? {} : { servername };
    const options = {
      host: "127.0.0.1",
      port,
      cert: Buffer.from(cert),
      key: Buffer.from(key),
      rejectUnauthorized: false,
      ALPNProtocols: ["h2"],
    };
    const before = eu.refusals.length;
    const socket: TLSSocket = connect({ ...options, ...name, ...(resumed !== undefined && { session: resumed }) });
    let kept: Buffer | undefined;
    let [hasData, isOver] = [false, false];
    socket.on("session", (each) => (kept = each));
    socket.on("data", () => (hasData = true));
    socket.on("error", () => {});
    socket.on("close", () => (isOver = true));
    // The listener's settings frame comes to whom it takes.
    await until("it is taken or refused", () => hasData || (isOver && eu.refusals.length > before));
    socket.destroy();
    return { kept, refusals: eu.refusals.slice(before).filter((why) => !why.includes("given up")) };
  }

  test("a session of a border's gate is resumed by no gate", async () => {
    const first = await session(gateOf("jp1"));
    expect(first.refusals).toEqual([]);
    expect(first.kept).toBeDefined();
    for (const name of ["", gateOf("ap1"), gateOf("jp1"), "localhost"])
      expect((await session(name, first.kept)).refusals.join()).toMatch(/resumed a TLS session|^TLS handshake/);
  });
});

test("a gate has the name of its cluster, and other names are none", () => {
  for (const clusterId of ["a", "us-west.1", "A:b/c@d+e", "x".repeat(64)]) expect(clusterAtGate(gateOf(clusterId))).toBe(clusterId);
  for (const name of [
    "",
    "localhost",
    "us1",
    "7.border.waymark",
    "20.border.waymark",
    `${"61".repeat(70)}.border.waymark`,
    "zz.border.waymark",
  ])
    expect(clusterAtGate(name)).toBeUndefined();
});
