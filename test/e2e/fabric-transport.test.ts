/** Links and calls between nodes over real sockets: what arrives, what is refused, and what a bad peer can cost. */
import { once } from "node:events";
import { connect as connectHttp2, type OutgoingHttpHeaders } from "node:http2";
import { type AddressInfo, connect as connectTcp, createServer, type Socket } from "node:net";
import { setTimeout } from "node:timers/promises";
import { Client, credentials } from "@grpc/grpc-js";
import { afterEach, describe, expect, test } from "vitest";
import type { FabricTls } from "../../src/fabric/transport/peer-identity.io.ts";
import type { FabricTransport } from "../../src/fabric/transport/transport.io.ts";
import { decodeCallResponse, encodeCallRequest } from "../../src/fabric/wire/call-codec.ts";
import { decodeLinkFrame, encodeLinkFrame } from "../../src/fabric/wire/codec.ts";
import type { LinkFrame } from "../../src/fabric/wire/messages.ts";
import { framed, MessageAssembler } from "../../src/grpc/wire/message-reader.ts";
import { FabricAuthority, type FakeMachine, openTestTransport, type TestTransportOptions } from "../fakes/fabric-transport.ts";
import { helloOf, nodeRef, updateOf } from "../fakes/fabric-values.ts";
import { callHeaders } from "../fakes/raw-link.ts";
import { until } from "../fakes/until.ts";

type Node = FakeMachine & { readonly transport: FabricTransport };
const nodes: Node[] = [];
/** Of calls that are answered, or refused, however busy the machine is. */
const CALL_MS = 30_000;

afterEach(async () => {
  await Promise.all(nodes.splice(0).map((node) => node.transport.stop(500)));
});

async function started(options: TestTransportOptions = {}): Promise<Node> {
  const node = await openTestTransport(options);
  nodes.push(node);
  return node;
}

const hello = (nodeId: string): LinkFrame => ({ kind: "hello", hello: helloOf(nodeId) });

/** Records of so many bytes each. */
function records(recordBytes: number, count: number, through: number): LinkFrame {
  const record = new Uint8Array(recordBytes).fill(7);
  const frame = { ...nodeRef("n1"), after: 0, through, isComplete: false, isLast: false, floor: 0 };
  return { kind: "records", clusterId: "c1", region: "eu", frame: { ...frame, records: Array.from({ length: count }, () => record) } };
}

/** `a` opens link 2 to `b`; both have said hello. */
async function linked(a: Node, b: Node): Promise<{ readonly there: number }> {
  a.greeting = hello("a");
  b.greeting = hello("b");
  a.transport.openLink(2, b.transport.address);
  await until("both have the other's hello", () => (a.links.get(2)?.frames.length ?? 0) > 0 && (b.incoming()[0]?.frames.length ?? 0) > 0);
  return { there: [...b.links.entries()].find(([, link]) => link.isIncoming)?.[0] ?? 0 };
}

describe("plain, on loopback", () => {
  test("two nodes greet each other on a link, and frames go both ways in order", async () => {
    const [a, b] = [await started(), await started()];
    const { there } = await linked(a, b);
    expect(a.find(2)).toMatchObject({ isIncoming: false, frames: [hello("b")], proof: { isLoopback: true, certificate: undefined } });
    expect(b.find(there)).toMatchObject({ isIncoming: true, frames: [hello("a")] });
    a.say(2, ...Array.from({ length: 50 }, (_, i) => records(6_000, 10, i + 1)));
    b.say(there, ...Array.from({ length: 50 }, (_, i): LinkFrame => ({ kind: "linked", nodeIds: [`n${i}`] })));
    await until("all frames arrived", () => a.find(2).frames.length === 51 && b.find(there).frames.length === 51);
    expect(
      b
        .find(there)
        .frames.slice(1)
        .map((frame) => (frame.kind === "records" ? frame.frame.through : 0)),
    ).toEqual(Array.from({ length: 50 }, (_, i) => i + 1));
    const [seventh, wanted] = [b.find(there).frames[7], records(6_000, 10, 7)].map(
      (frame) => frame?.kind === "records" && frame.frame.records,
    );
    expect(Buffer.concat(seventh || []).equals(Buffer.concat(wanted || []))).toBe(true);
  });

  test("calls are answered, and a call that is refused or takes too long is told so once", async () => {
    const [a, b] = [await started({ clusterToken: "secret" }), await started()];
    b.answer = (request) =>
      request.kind === "probe"
        ? { kind: "probe", from: nodeRef("b"), updates: [updateOf("n9", { status: "suspect", accuser: "b" })] }
        : undefined;
    a.transport.call(1, b.transport.address, { kind: "probe", from: nodeRef("a"), targetNodeId: "b", updates: [updateOf("a")] }, CALL_MS);
    a.transport.call(2, b.transport.address, { kind: "pushPull", from: nodeRef("a"), isJoin: true, members: [] }, CALL_MS);
    await until("both are answered", () => a.answers.size === 2);
    expect(a.answers.get(1)).toEqual({ kind: "probe", from: nodeRef("b"), updates: [updateOf("n9", { status: "suspect", accuser: "b" })] });
    expect(a.answers.get(2)).toBeUndefined();
    expect(b.asks[0]).toMatchObject({ request: { updates: [updateOf("a")] }, proof: { clusterToken: "secret", isLoopback: true } });
  });

  test("calls of strangers that never end take no room of the peers' calls, and have their own again when they are gone", async () => {
    const b = await started({ limits: { maxIncomingCalls: 1, maxStrangerCalls: 2 } });
    b.isStranger = (proof) => proof.clusterToken !== "secret";
    b.answer = () => ({ kind: "probe", from: nodeRef("b"), updates: [] });
    const strangers = [1, 2, 3].map(() => rawStream(b.transport.address, "Probe"));
    const refused = await Promise.any(strangers.map(({ stream }) => once(stream, "response")));
    expect(refused[0]).toMatchObject({ "grpc-message": "too many calls" });
    const a = await started({ clusterToken: "secret" });
    a.transport.call(1, b.transport.address, { kind: "probe", from: nodeRef("a"), targetNodeId: "b", updates: [] }, CALL_MS);
    await until("the peer is answered", () => a.answers.size === 1);
    expect(a.answers.get(1)).toMatchObject({ kind: "probe" });
    for (const { session } of strangers) session.destroy();
    const stranger = await started({ clusterToken: "another" });
    let asked = 0;
    await until("a stranger is heard again", async () => {
      asked += 1;
      stranger.transport.call(asked, b.transport.address, { kind: "probe", from: nodeRef("x"), targetNodeId: "b", updates: [] }, CALL_MS);
      await until("it has an answer or none", () => stranger.answers.has(asked));
      return stranger.answers.get(asked) !== undefined;
    });
  });

  test("a goodbye is the last thing said; both sides hear that the link closed", async () => {
    const [a, b] = [await started(), await started()];
    const { there } = await linked(a, b);
    a.say(2, { kind: "goodbye", reason: "leave", detail: "" });
    a.transport.closeLink(2);
    await until("both closed", () => a.find(2).closed !== undefined && b.find(there).closed !== undefined);
    expect(b.find(there).frames.at(-1)).toEqual({ kind: "goodbye", reason: "leave", detail: "" });
    expect([a.find(2).closed, b.find(there).closed]).toEqual(["closed", "the peer ended the link"]);
    await until("no connection is left", () => b.transport.counts().connections === 0);
  });
});

/** Opens link 2 from `a`; resolves with how it ended. */
async function attempted(a: Node, address: string): Promise<string> {
  a.transport.openLink(2, address);
  await until("the link was refused", () => a.unopened.has(2) || a.links.get(2)?.closed !== undefined);
  return a.unopened.get(2) ?? a.find(2).closed ?? "";
}

describe("with certificates", () => {
  test("each end knows the other by its certificate, although it was reached by an IP address", async () => {
    const authority = new FabricAuthority();
    const [a, b] = [await started({ tls: authority.issue("a") }), await started({ tls: authority.issue("b") })];
    const { there } = await linked(a, b);
    expect(a.find(2).proof.certificate).toEqual({ nodeId: "b", clusterId: "c1" });
    expect(b.find(there).proof.certificate).toEqual({ nodeId: "a", clusterId: "c1" });
  });

  const ours = new FabricAuthority();
  const theirs = new FabricAuthority();
  test.each([
    { who: "another authority's", tls: { ...theirs.issue("a"), clientCa: ours.ca } },
    { who: "one that has expired", tls: ours.issue("a", { endsInMs: -1_000 }) },
    { who: "another trust domain's", tls: ours.issue("a", { domain: "elsewhere" }) },
  ])("nobody links with a certificate that is $who", async ({ tls }) => {
    const [a, b] = [await started({ tls }), await started({ tls: ours.issue("b") })];
    expect(await attempted(a, b.transport.address)).not.toBe("");
    a.transport.call(1, b.transport.address, { kind: "probe", from: nodeRef("a"), targetNodeId: "b", updates: [] }, CALL_MS);
    await until("the call failed", () => a.answers.has(1));
    expect([a.answers.get(1), b.links.size, b.asks.length]).toEqual([undefined, 0, 0]);
  });

  test("a node does not talk to somebody another authority vouches for", async () => {
    const [a, b] = [await started({ tls: ours.issue("a") }), await started({ tls: { ...theirs.issue("b"), clientCa: ours.ca } })];
    expect(await attempted(a, b.transport.address)).toMatch(/self-signed|unable to|certificate|signature/i);
    expect(b.links.size).toBe(0);
  });

  test("a certificate of no node is refused when it is configured, and with it its bearer", async () => {
    const nobody = ours.issueOther(["spiffe://waymark/service/web"]);
    await expect(started({ tls: nobody })).rejects.toThrow("does not name a node");
    const b = await started({ tls: ours.issue("b") });
    const session = connectHttp2(`https://${b.transport.address}`, { ...secure(nobody), checkServerIdentity: () => undefined });
    session.on("error", () => {});
    await until("it was turned away", () => b.refusals.includes("its certificate does not name a node"));
    await until("and cut", () => session.destroyed || session.closed);
  });

  test("a plain node and one with certificates do not link", async () => {
    const [a, b] = [await started(), await started({ tls: ours.issue("b") })];
    expect(await attempted(a, b.transport.address)).not.toBe("");
    expect(await attempted(b, a.transport.address)).not.toBe("");
    expect([a.links.size, b.links.size]).toEqual([0, 0]);
  });

  test("an answer under another node's certificate is none", async () => {
    const [a, b] = [await started({ tls: ours.issue("a") }), await started({ tls: ours.issue("b") })];
    b.answer = () => ({ kind: "probe", from: nodeRef("c"), updates: [] });
    a.transport.call(1, b.transport.address, { kind: "probe", from: nodeRef("a"), targetNodeId: "c", updates: [] }, CALL_MS);
    await until("answered", () => a.answers.has(1));
    expect(a.answers.get(1)).toBeUndefined();
    expect(a.refusals).toEqual(["probe: node c of cluster c1 answered with the certificate of node b of cluster c1"]);
  });

  test("new certificates are for new connections; open links go on", async () => {
    const next = new FabricAuthority();
    const [a, b] = [await started({ tls: ours.issue("a") }), await started({ tls: ours.issue("b") })];
    const { there } = await linked(a, b);
    b.transport.setTls(next.issue("b"));
    a.say(2, records(10, 1, 1));
    await until("the old link still carries", () => b.find(there).frames.length === 2);
    const stranger = await started({ tls: ours.issue("x") });
    expect(await attempted(stranger, b.transport.address)).not.toBe("");
    a.transport.setTls(next.issue("a"));
    a.transport.openLink(4, b.transport.address);
    await until("a new link with the new ones", () => a.links.has(4));
    expect(() => a.transport.setTls({ ...next.issue("a"), key: Buffer.from("no key") })).toThrow(/DECODER|PEM|key/i);
    expect(() => a.transport.setTls(next.issueOther([]))).toThrow("does not name a node");
    a.transport.openLink(6, b.transport.address);
    await until("the ones before stay when new ones are bad", () => a.links.has(6));
  });
});

describe("refused", () => {
  test("a plain listener on an address others reach, unless the network is trusted", async () => {
    await expect(started({ host: "0.0.0.0" })).rejects.toThrow("--insecure");
    await started({ host: "0.0.0.0", isInsecure: true });
  });

  test("an address where nobody is, and one where nobody answers", async () => {
    const a = await started({ limits: { openTimeoutMs: 1_000 } });
    expect(await attempted(a, "127.0.0.1:1")).toContain("ECONNREFUSED");
    for (const nonsense of ["127.0.0.1:99999", "nowhere", ""]) {
      a.unopened.clear();
      expect(await attempted(a, nonsense)).toContain("expected host:port");
    }
    const mute = createServer(() => {}).listen(0, "127.0.0.1");
    await once(mute, "listening");
    a.unopened.clear();
    const { port } = mute.address() as AddressInfo;
    expect(await attempted(a, `127.0.0.1:${port}`)).toContain("no connection within");
    a.transport.call(1, `127.0.0.1:${port}`, { kind: "probe", from: nodeRef("a"), targetNodeId: "b", updates: [] }, 200);
    await until("the call ended", () => a.answers.has(1));
    await until("no connection is kept", () => a.transport.counts().channels === 0);
    mute.close();
  });

  test("a link beyond the bound", async () => {
    const [a, b] = [await started(), await started({ limits: { maxIncomingLinks: 1 } })];
    await linked(a, b);
    const c = await started();
    expect(await attempted(c, b.transport.address)).toContain("refused (too many links)");
  });
});

describe("bad peers", () => {
  test("a burst of small frames is read a few at a time, so that others have their turns in between, and every frame comes", async () => {
    const b = await started();
    const raw = rawLink(b.transport.address);
    raw.stream.write(framed(encodeLinkFrame(hello("evil"))));
    await until("it is linked", () => b.incoming().length === 1);
    const readIn: number[] = [];
    let turns = 0;
    const count = (): void => {
      turns += 1;
      if (readIn.length < 200) setImmediate(count);
    };
    count();
    b.received = () => {
      const endMonoMs = performance.now() + 2;
      while (performance.now() < endMonoMs);
      readIn.push(turns);
    };
    raw.stream.write(Buffer.concat(Array.from({ length: 200 }, (_, i) => framed(encodeLinkFrame({ kind: "linked", nodeIds: [`n${i}`] })))));
    await until("all frames arrived", () => readIn.length === 200);
    const most = Math.max(...readIn.map((turn) => readIn.filter((other) => other === turn).length));
    expect(most).toBeLessThanOrEqual(10);
  });

  test.each([
    { what: "garbage", bytes: framed(Uint8Array.of(1, 2, 3)) },
    { what: "a frame cut short", bytes: framed(encodeLinkFrame(hello("evil")).subarray(0, 20)) },
    { what: "a message that says it has 1 GiB", bytes: Uint8Array.of(0, 64, 0, 0, 0) },
    { what: "a compressed message", bytes: Uint8Array.of(1, 0, 0, 0, 1, 0) },
    { what: "an id that is none", bytes: framed(encodeLinkFrame({ kind: "hello", hello: helloOf("a b") })) },
  ])("$what ends the link and nothing else", async ({ bytes }) => {
    const [a, b] = [await started(), await started({ limits: { goodbyeMs: 200 } })];
    const { there } = await linked(a, b);
    const raw = rawLink(b.transport.address);
    raw.stream.write(framed(encodeLinkFrame(hello("evil"))));
    await until("it is linked", () => b.incoming().length === 2);
    raw.stream.write(bytes);
    await until("its link closed", () => b.incoming()[1]?.closed !== undefined);
    expect(b.incoming()[1]?.closed).toContain("invalid frame: ");
    await until("it is told why, and cut", () => raw.frames.some((frame) => frame.kind === "goodbye" && frame.reason === "bad_frame"));
    await until("it is gone", () => b.transport.counts().connections === 1 && b.transport.counts().bufferedBytes === 0);
    a.say(2, records(10, 1, 1));
    await until("others go on", () => b.find(there).frames.length === 2);
  });

  test("one that says nothing is no link, and is cut", async () => {
    const b = await started({ limits: { helloTimeoutMs: 300 } });
    const raw = rawLink(b.transport.address);
    await until("cut", () => b.refusals.includes("link: no hello arrived in time"));
    await until("gone", () => raw.session.destroyed && b.transport.counts().connections === 0);
    expect(b.links.size).toBe(0);
  });

  test("many that say nothing make room for one that does", async () => {
    const b = await started({ limits: { maxIncomingLinks: 2 } });
    const silent = Array.from({ length: 3 }, () => rawLink(b.transport.address));
    await until("the first made room", () => b.refusals.includes("link: closed before it sent a hello, to make room for a new link"));
    await linked(await started(), b);
    expect(b.incoming().length).toBe(1);
    for (const { session } of silent) session.destroy();
  });

  test("one that sends half a message for ever is no link either", async () => {
    const b = await started({ limits: { helloTimeoutMs: 300 } });
    const raw = rawLink(b.transport.address);
    raw.stream.write(Uint8Array.of(0, 0, 0, 1, 0, 10));
    const timer = setInterval(() => raw.stream.destroyed || raw.stream.write(Uint8Array.of(1)), 50);
    await until("cut", () => b.refusals.includes("link: no hello arrived in time"));
    clearInterval(timer);
    expect(b.links.size).toBe(0);
  });

  test("one whose first frame is no hello's size is cut before it is here, and calls that never end cost no link its place", async () => {
    const b = await started({ limits: { maxBufferedBytes: 300_000, goodbyeMs: 200 } });
    const first = rawLink(b.transport.address);
    first.stream.write(Buffer.concat([Uint8Array.of(0, 0, 32, 0, 0), Buffer.alloc(100_000)]));
    await until("cut", () => b.refusals.some((why) => why.includes("and the limit is 16384")));
    const calls = Array.from({ length: 4 }, () => rawStream(b.transport.address, "PushPull"));
    for (const call of calls) call.stream.write(Buffer.concat([Uint8Array.of(0, 0, 32, 0, 0), Buffer.alloc(100_000)]));
    await until("one too many", () => b.refusals.some((why) => why.includes("too many incomplete")));
    const a = await started();
    await linked(a, b);
    a.say(2, records(200_000, 1, 1));
    await until("the frame is there", () => b.incoming()[0]?.frames.length === 2);
    expect(b.incoming().length).toBe(1);
    for (const call of calls) call.session.destroy();
  });

  test("one that does not read costs one frame, gets all of it when it reads again, and is cut when it never does", {
    tags: ["night"],
  }, async () => {
    const b = await started({ limits: { stuckMs: 8_000 } });
    const raw = rawLink(b.transport.address);
    b.greeting = hello("b");
    raw.stream.write(framed(encodeLinkFrame(hello("slow"))));
    await until("greeted", () => raw.frames.length === 1);
    raw.stream.pause();
    let next = 0;
    b.endless = () => (next < 300 ? records(200_000, 1, (next += 1)) : undefined);
    const [link = 0] = b.links.keys();
    b.transport.wake(link);
    await until("a frame is pulled", () => b.pulledCount === 2);
    await setTimeout(1_000); // That nothing more is pulled shows only with time; an eighth of what it may be stuck.
    expect(b.pulledCount).toBe(2);
    raw.stream.resume();
    await until("all of it came", () => raw.frames.length === 301);
    expect(raw.frames.slice(1).every((frame, i) => frame.kind === "records" && frame.frame.through === i + 1)).toBe(true);
    raw.stream.pause();
    next = 0;
    b.transport.wake(link);
    await until("cut", () => b.find(link).closed === "the peer stopped reading");
    await until("gone", () => b.transport.counts().connections === 0);
  });

  test("when the network between them stops, both sides notice", { tags: ["night"] }, async () => {
    const limits = { keepaliveTimeMs: 200, keepaliveTimeoutMs: 5_000 };
    const [a, b] = [await started({ limits }), await started({ limits })];
    const middle: Socket[] = [];
    let passedCount = 0;
    const proxy = createServer((near) => {
      const far = connectTcp(b.transport.port, "127.0.0.1");
      middle.push(near, far);
      for (const [from, to] of [
        [near, far],
        [far, near],
      ] as const) {
        from.on("error", () => {});
        from.on("data", () => (passedCount += 1));
        from.pipe(to);
      }
    }).listen(0, "127.0.0.1");
    await once(proxy, "listening");
    a.greeting = hello("a");
    a.transport.openLink(2, `127.0.0.1:${(proxy.address() as AddressInfo).port}`);
    await until("linked", () => b.links.size === 1);
    // Nothing else is said on this link: a question and its answer are a piece each way.
    const greetedCount = passedCount;
    await until("several of them are asked for and answered", () => passedCount >= greetedCount + 12);
    expect([a.find(2).closed, b.incoming()[0]?.closed]).toEqual([undefined, undefined]);
    for (const socket of middle) socket.unpipe().pause();
    await until("noticed", () => a.find(2).closed !== undefined && b.incoming()[0]?.closed !== undefined);
    expect([a.find(2).closed, b.incoming()[0]?.closed]).toEqual([
      "the server did not answer keepalive pings",
      "the peer does not answer pings",
    ]);
    for (const socket of middle) socket.destroy();
    proxy.close();
  });

  test("500 connections at once, most of them to do nothing, keep nobody from linking", { tags: ["night"] }, async () => {
    const b = await started({ limits: { maxConnections: 600 } });
    const sockets = Array.from({ length: 500 }, (_, i) => {
      const socket = connectTcp(b.transport.port, "127.0.0.1");
      socket.on("error", () => {});
      if (i % 3 === 1) socket.write("GET / HTTP/1.1\r\n\r\n");
      if (i % 3 === 2) socket.write(Buffer.alloc(2_000, 0xff));
      return socket;
    });
    await until("they are there", () => b.transport.counts().connections > 100);
    const a = await started();
    await linked(a, b);
    await until("those that say nothing are cut", () => b.transport.counts().connections <= 1);
    expect(a.find(2).closed).toBeUndefined();
    for (const socket of sockets) socket.destroy();
  });

  test("connections that prove nothing take no places of peers: the oldest of them go when others come, and a peer links and calls", async () => {
    const b = await started({ limits: { maxConnections: 12, maxUnprovenConnections: 4 } });
    b.isStranger = (proof) => proof.clusterToken !== "secret";
    const a = await started();
    let openCount = 0;
    const flood = async () => {
      for (let n = 0; n < 20; n++) {
        const session = n % 2 === 0 ? connectHttp2(`http://${b.transport.address}`) : rawStream(b.transport.address, "Probe").session;
        session.on("error", () => {});
        session.once("close", () => (openCount -= 1));
        openCount += 1;
        await Promise.race([once(session, "remoteSettings"), once(session, "close")]);
      }
      await until("all but the last ones are closed", () => openCount <= 4);
    };
    await flood();
    a.greeting = { kind: "hello", hello: helloOf("a", { clusterToken: "secret" }) };
    b.greeting = hello("b");
    a.transport.openLink(2, b.transport.address);
    await until("both have the other's hello", () => a.links.get(2)?.frames.length === 1 && b.incoming()[0]?.frames.length === 1);
    // The token of a call counts as that of a link does.
    const calling = rawStream(b.transport.address, "Probe", "secret");
    calling.stream.end(framed(encodeCallRequest({ kind: "probe", from: nodeRef("c"), targetNodeId: "b", updates: [] })));
    await until("the call came", () => b.asks.length === 1);
    await flood();
    expect([a.find(2).closed, calling.session.closed || calling.session.destroyed]).toEqual([undefined, false]);
    calling.session.destroy();
    expect(b.refusals).toContain("closed before it proved an identity, to make room for a new connection");
    expect(b.refusals).not.toContain("too many connections");
  });

  test("streams to nowhere, other content types and huge headers are refused", async () => {
    const b = await started();
    const session = connectHttp2(`http://${b.transport.address}`);
    session.on("error", () => {});
    const ask = (headers: OutgoingHttpHeaders) =>
      new Promise<string>((resolve) => {
        const stream = session.request({ ":method": "POST", "content-type": "application/grpc", ...headers });
        stream.on("response", (response) => resolve(String(response["grpc-status"] ?? response[":status"])));
        stream.on("error", () => resolve("error"));
        stream.end();
      });
    expect(await ask({ ":path": "/waymark.discovery.v1.DiscoveryService/CatalogQuery" })).toBe("12");
    expect(await ask({ ":path": "/waymark.fabric.v1.FabricService/Probe", "content-type": "text/plain" })).toBe("415");
    expect(await ask({ ":path": "/waymark.fabric.v1.FabricService/Probe", filler: "x".repeat(60_000) })).toBe("error");
    session.destroy();
    const a = await started();
    await linked(a, b);
  });

  test("a request that is no message is refused, and a body that never ends is forgotten in time", async () => {
    const b = await started({ limits: { answerTimeoutMs: 1_500 } });
    const raw = rawStream(b.transport.address, "Probe");
    raw.stream.end(framed(Uint8Array.of(0xff, 0xff)));
    await until("refused", () => b.refusals.length === 1);
    const slow = rawStream(b.transport.address, "PushPull");
    slow.stream.write(Uint8Array.of(0, 0, 16, 0, 0, 1, 2, 3));
    await until("begun", () => b.transport.counts().bufferedBytes === 8);
    await until("forgotten", () => b.transport.counts().bufferedBytes === 0 && b.transport.counts().calls === 0);
    expect(b.asks).toEqual([]);
    raw.session.destroy();
    slow.session.destroy();
  });
});

describe("life", () => {
  test("a node that stops ends its links; when it is back at its address they can be opened again", async () => {
    const [a, b] = [await started(), await started()];
    await linked(a, b);
    const { port } = b.transport;
    await b.transport.stop(1_000);
    await until("a heard", () => a.find(2).closed !== undefined);
    const again = await started({ port });
    again.greeting = hello("b");
    a.transport.openLink(4, again.transport.address);
    await until("linked again", () => (a.links.get(4)?.frames.length ?? 0) > 0);
    expect(a.find(4).frames).toEqual([hello("b")]);
  });

  test("a killed connection closes the link on both sides", async () => {
    const [a, b] = [await started(), await started()];
    const { there } = await linked(a, b);
    await b.transport.stop(0);
    await until("both heard", () => a.find(2).closed !== undefined && b.find(there).closed !== undefined);
    expect([a.transport.counts().outgoingLinks, b.transport.counts().links]).toEqual([0, 0]);
  });

  test("connections for calls are shared, bounded, and closed when they are idle", async () => {
    const a = await started({ limits: { maxChannels: 3, idleMs: 600 } });
    const others = await Promise.all(Array.from({ length: 6 }, () => started()));
    let call = 0;
    for (const other of others) {
      other.answer = () => ({ kind: "pushPull", from: nodeRef("x"), members: [] });
      for (let i = 0; i < 3; i++)
        a.transport.call(++call, other.transport.address, { kind: "pushPull", from: nodeRef("a"), isJoin: false, members: [] }, CALL_MS);
      await until("answered", () => a.answers.size === call);
      expect(a.transport.counts().channels).toBeLessThanOrEqual(3);
      expect(other.transport.counts().connections).toBe(1);
    }
    expect([...a.answers.values()].every((answer) => answer?.kind === "pushPull")).toBe(true);
    await until(
      "all closed",
      () => a.transport.counts().channels === 0 && others.every((other) => other.transport.counts().connections === 0),
    );
  });

  test("more calls than the bound fail at once, and are counted", async () => {
    const a = await started({ limits: { maxCalls: 2 } });
    for (let call = 1; call <= 5; call++)
      a.transport.call(call, "127.0.0.1:9", { kind: "pushPull", from: nodeRef("a"), isJoin: false, members: [] }, 500);
    expect(a.answers.size).toBe(3);
    expect(a.transport.counts().refusedCalls).toBe(3);
    await until("the others fail too", () => a.answers.size === 5);
  });

  test("a gRPC client of any language can speak it: grpc-js does", async () => {
    const b = await started();
    b.greeting = hello("b");
    b.answer = () => ({ kind: "probe", from: nodeRef("b"), updates: [] });
    const client = new Client(b.transport.address, credentials.createInsecure());
    const same = (bytes: Buffer): Buffer => bytes;
    const request = Buffer.from(encodeCallRequest({ kind: "probe", from: nodeRef("a"), targetNodeId: "b", updates: [] }));
    const answer = await new Promise<Buffer | undefined>((resolve, reject) => {
      client.makeUnaryRequest("/waymark.fabric.v1.FabricService/Probe", same, same, request, (error, bytes) =>
        error === null ? resolve(bytes) : reject(error),
      );
    });
    expect(decodeCallResponse("probe", answer ?? new Uint8Array())).toEqual({ kind: "probe", from: nodeRef("b"), updates: [] });
    const call = client.makeBidiStreamRequest("/waymark.fabric.v1.FabricService/Link", same, same);
    const got: LinkFrame[] = [];
    let code: number | undefined;
    call.on("data", (bytes: Buffer) => got.push(decodeLinkFrame(bytes)));
    call.on("status", (status) => (code = status.code));
    call.write(Buffer.from(encodeLinkFrame(hello("a"))));
    await until("greeted", () => got.length === 1);
    call.end();
    await until("ended well", () => code !== undefined);
    expect([got, code]).toEqual([[hello("b")], 0]);
    client.close();
  });
});

function secure({ cert, key, clientCa }: FabricTls) {
  return { cert: Buffer.from(cert), key: Buffer.from(key), ca: Buffer.from(clientCa) };
}

/** A stream of a peer that need not keep any rule. */
function rawStream(address: string, method: string, token = "") {
  const session = connectHttp2(`http://${address}`);
  session.on("error", () => {});
  const stream = session.request(callHeaders(method, token));
  stream.on("error", () => {});
  return { session, stream };
}

function rawLink(address: string) {
  const raw = rawStream(address, "Link");
  const frames: LinkFrame[] = [];
  const assembler = new MessageAssembler({ maxMessageBytes: 2 ** 22, maxBufferedBytes: 2 ** 24, bufferedBytes: 0 });
  raw.stream.on("data", (chunk: Buffer) => {
    assembler.push(chunk);
    for (let message = assembler.next(); message !== undefined; message = assembler.next()) frames.push(decodeLinkFrame(message));
  });
  return { ...raw, frames };
}
