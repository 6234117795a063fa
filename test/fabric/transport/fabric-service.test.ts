/** The service that other nodes call, over arrays: who has room, what a stranger may hold, and what ends in time. */
import { expect, test } from "vitest";
import { FabricService } from "../../../src/fabric/transport/fabric-service.ts";
import { TRANSPORT_LIMITS, type TransportLimits } from "../../../src/fabric/transport/limits.ts";
import { WireTraffic } from "../../../src/fabric/transport/link-stream.ts";
import { encodeCallRequest } from "../../../src/fabric/wire/call-codec.ts";
import { encodeLinkFrame } from "../../../src/fabric/wire/codec.ts";
import type { PeerIdentity } from "../../../src/fabric/wire/messages.ts";
import { ServerCall } from "../../../src/grpc/server/server-call.ts";
import { framed } from "../../../src/grpc/wire/message-reader.ts";
import { readHead } from "../../../src/grpc/wire/request-head.ts";
import { statusOfThrown } from "../../../src/grpc/wire/status.ts";
import { helloOf, nodeRef } from "../../fakes/fabric-values.ts";
import { FakePort } from "../../fakes/grpc-port.ts";

const TOKEN = "secret";
const HELLO = framed(encodeLinkFrame({ kind: "hello", hello: helloOf("a") }));
const PROBE = framed(encodeCallRequest({ kind: "probe", from: nodeRef("a"), targetNodeId: "b", updates: [] }));

/** `gate us1` stands for a certificate that was shown at the gate of the border with us1. */
function identityOf(token: string): PeerIdentity {
  const [, border] = /^gate (.+)$/.exec(token) ?? [];
  return { address: "a:1", isLoopback: true, certificate: undefined, clusterToken: token, ...(border !== undefined && { border }) };
}

/** A service, and what it told. Peers show the token, strangers do not. */
function served(limits: Partial<TransportLimits> = {}) {
  const told: string[] = [];
  const time = { ms: 0 };
  const deferred: (() => void)[] = [];
  const service = new FabricService({
    limits: { ...TRANSPORT_LIMITS, ...limits },
    traffic: new WireTraffic(),
    clock: { stallAwareMs: () => time.ms, monoMs: () => time.ms, defer: (act) => void deferred.push(act) },
    events: {
      requested: (call, { kind }) => void told.push(`asked ${call} ${kind}`),
      isStranger: ({ clusterToken }) => clusterToken !== TOKEN,
      refused: (why) => void told.push(`refused ${why}`),
      linked: () => ({
        opened: () => void told.push("opened"),
        received: ({ kind }) => void told.push(`received ${kind}`),
        pull: () => undefined,
        closed: (detail) => void told.push(`closed ${detail}`),
      }),
    },
    peerOf: (call) => ({
      identity: identityOf(call.header("waymark-cluster-token") ?? ""),
      cut: (afterMs) => void told.push(`cut ${afterMs}`),
      onHello: () => undefined,
      whyCut: () => undefined,
    }),
  });
  /** A call that began; what it was answered is in its orders. */
  const called = (name: string, token = "") => {
    const method = service.methods.find(({ path }) => path.endsWith(`/${name}`));
    if (method === undefined) throw new Error(`no method ${name}`);
    const port = new FakePort();
    const headers = { ":method": "POST", ":path": method.path, "content-type": "application/grpc", "waymark-cluster-token": token };
    const head = readHead(headers);
    if (head.kind !== "call") throw new Error("not a call");
    const environment = {
      bounds: { maxMessageBytes: 0, maxBufferedBytes: 0, bufferedBytes: 0 },
      maxSendBytes: 1_000_000,
      inflater: undefined,
      statusOf: statusOfThrown,
      nowMs: () => time.ms,
    };
    const call = new ServerCall(method, { head, headers, fields: Object.entries(headers).flat(), port, connection: {}, environment });
    port.trailers = () => call.trailers();
    call.start();
    return { call, orders: port.orders };
  };
  return { service, told, time, called, turn: () => deferred.splice(0).forEach((act) => act()) };
}

test("a call is asked once it is here, and answered once", () => {
  const { service, told, called } = served();
  const { call, orders } = called("Probe", TOKEN);
  call.data(PROBE);
  expect(told).toEqual([]);
  call.requestEnded();
  expect([told, service.counts().calls]).toEqual([["asked 1 probe"], 1]);
  service.answer(1, { kind: "probe", from: nodeRef("b"), updates: [] });
  service.answer(1, undefined);
  expect([orders.length, orders[0], service.counts().calls]).toEqual([2, "headers 200", 0]);
  const refused = called("Probe", TOKEN);
  refused.call.data(PROBE);
  refused.call.requestEnded();
  service.answer(3, undefined, "not you");
  expect(refused.orders).toEqual(["trailers-only 200 grpc-status=7 grpc-message=not you"]);
});

test("calls of strangers have places of their own, and a few bytes; peers have theirs", () => {
  const { told, called, service } = served({ maxIncomingCalls: 1, maxStrangerCalls: 1 });
  const stranger = called("PushPull");
  expect(called("PushPull").orders[0]).toBe("trailers-only 200 grpc-status=8 grpc-message=too many calls");
  const peer = called("PushPull", TOKEN);
  expect(called("PushPull", TOKEN).orders[0]).toBe("trailers-only 200 grpc-status=8 grpc-message=too many calls");
  stranger.call.data(Uint8Array.of(0, 0, 0, 16, 1, 0));
  expect(stranger.orders[0]).toBe("trailers-only 200 grpc-status=7 grpc-message=refused");
  peer.call.data(Uint8Array.of(0, 0, 0, 16, 1, 0));
  expect([peer.orders, service.counts()]).toEqual([[], { links: 0, calls: 1, bufferedBytes: 6 }]);
  expect(told).toEqual([expect.stringMatching(/^refused pushPull from an unknown peer: .*the limit is 4096$/)]);
  peer.call.closed();
  expect(service.counts()).toEqual({ links: 0, calls: 0, bufferedBytes: 0 });
});

test("a call that is no message, or has no answer in time, ends with a status", () => {
  const { called, time, service, told } = served();
  const wrong = called("Probe", TOKEN);
  wrong.call.data(framed(Uint8Array.of(255)));
  wrong.call.requestEnded();
  expect(wrong.orders[0]).toMatch(/^trailers-only 200 grpc-status=3 /);
  const late = called("Probe", TOKEN);
  time.ms = TRANSPORT_LIMITS.answerTimeoutMs + 1;
  service.check(time.ms);
  expect(late.orders[0]).toBe("trailers-only 200 grpc-status=14 grpc-message=this node did not answer in time");
  expect(told).toEqual([expect.stringMatching(/^refused probe: /)]);
});

test("a link is one with its first frame; one that says nothing is cut in time, and makes room for another", () => {
  const { called, told, service, time } = served({ maxIncomingLinks: 1 });
  const silent = called("Link");
  expect([silent.orders, told]).toEqual([["headers 200"], []]);
  const next = called("Link");
  expect(told).toEqual(["cut 1000", "refused link: closed before it sent a hello, to make room for a new link", "cut 0"]);
  next.call.data(HELLO);
  expect(told.slice(3)).toEqual(["opened", "received hello"]);
  expect(called("Link").orders[0]).toBe("trailers-only 200 grpc-status=8 grpc-message=too many links");
  next.call.closed();
  expect(told.slice(5)).toEqual(["refused too many links", "cut 1000", "closed stream closed", "cut 0"]);
  called("Link");
  service.check((time.ms = TRANSPORT_LIMITS.helloTimeoutMs + 1));
  expect(told.slice(9)).toEqual(["cut 1000", "refused link: no hello arrived in time", "cut 0"]);
});

test("a neighbour has links of its own number, whatever it says on them", () => {
  const { called, service } = served({ maxIncomingLinks: 5, maxLinksOfBorder: 2 });
  const links = Array.from({ length: 4 }, () => called("Link", "gate us1"));
  for (const { call, orders } of links) if (orders[0] === "headers 200") call.data(HELLO);
  const full = "trailers-only 200 grpc-status=8 grpc-message=too many links";
  expect(links.map(({ orders }) => orders[0])).toEqual(["headers 200", "headers 200", full, full]);
  expect([called("Link", "gate ap1").orders[0], called("Link", TOKEN).orders[0]]).toEqual(["headers 200", "headers 200"]);
  links[0]?.call.closed();
  expect([called("Link", "gate us1").orders[0], service.counts().links]).toEqual(["headers 200", 4]);
});

test("a first frame is small; later ones need not be", () => {
  const { called, told, service } = served();
  const large = Uint8Array.of(0, 0, 1, 0, 0);
  const first = called("Link");
  first.call.data(large);
  expect(told.slice(0, 2)).toEqual(["cut 1000", expect.stringMatching(/^refused link: invalid frame: .*the limit is 16384$/)]);
  const second = called("Link");
  second.call.data(Buffer.concat([HELLO, large]));
  expect([told.slice(2), service.counts()]).toEqual([["opened", "received hello"], { links: 1, calls: 0, bufferedBytes: 5 }]);
});

test("a frame that is no hello does not let a stranger send large ones", () => {
  const { called, told } = served();
  const unknown = framed(Uint8Array.of(0x0a, 3, 0x7a, 1, 0x78));
  const large = Uint8Array.of(0, 0, 1, 0, 0);
  const { call } = called("Link");
  call.data(Buffer.concat([unknown, large]));
  expect(told).toEqual(["opened", "received unknown", "cut 1000", expect.stringMatching(/^closed invalid frame: .*the limit is 16384$/)]);
});

test("a link that its opener ends, or takes away unused, was not turned away", () => {
  const { called, told } = served();
  const used = called("Link");
  used.call.data(HELLO);
  used.call.requestEnded();
  expect([told, used.orders]).toEqual([
    ["opened", "received hello", "cut 1000", "closed the peer ended the link"],
    ["headers 200", "end grpc-status=0"],
  ]);
  called("Link").call.requestEnded();
  called("Link").call.closed();
  expect(told.slice(4)).toEqual(["cut 1000", "cut 1000", "cut 0"]);
});

test("a service that stops takes nothing more, and turns nobody away", () => {
  const { called, told, service } = served();
  const silent = called("Link");
  service.stop();
  for (const name of ["Probe", "Link"])
    expect(called(name, TOKEN).orders[0]).toBe("trailers-only 200 grpc-status=14 grpc-message=the node is stopping");
  silent.call.data(Uint8Array.of(9, 9, 9, 9, 9));
  expect(told).toEqual(["cut 1000"]);
});
