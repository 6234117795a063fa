/** Calls at a real node's fabric listener without its cluster's token: refused before their bytes are read, and no burden for its peers. */
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { type ClientHttp2Session, type ClientHttp2Stream, connect } from "node:http2";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { encodeCallRequest } from "../../src/fabric/wire/call-codec.ts";
import { framed } from "../../src/grpc/wire/message-reader.ts";
import { nodeRef, updateOf } from "../fakes/fabric-values.ts";
import { type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";
import { callHeaders } from "../fakes/raw-link.ts";
import { until } from "../fakes/until.ts";

const TOKEN = "a-secret-of-this-cluster";
/** Peers are sent this port; no test here connects to it. */
const ADVERTISED_PORT = 7999;
const HOME = mkdtempSync(join(tmpdir(), "waymark-strangers-"));

let node: NodeProcess;
const sessions: ClientHttp2Session[] = [];

beforeAll(async () => {
  const token = join(HOME, "token");
  writeFileSync(token, `${TOKEN}\n`);
  const config = join(HOME, "config.json");
  writeFileSync(config, JSON.stringify({ fabric: { cluster_token_file: token, advertise_port: ADVERTISED_PORT } }));
  node = await startNodeProcess(["--ephemeral", "--node-id", "a", "--cluster-id", "c1", "--region", "eu", "--config", config]);
});

afterAll(async () => {
  for (const session of sessions) session.destroy();
  await node[Symbol.asyncDispose]();
  rmSync(HOME, { recursive: true });
});

interface Call {
  readonly stream: ClientHttp2Stream;
  /** gRPC status, once there is one. */
  readonly status: () => string | undefined;
}

function called(method: string, token: string): Call {
  const session = connect(`http://${node.listeners["fabric"]}`);
  session.on("error", () => {});
  sessions.push(session);
  const stream = session.request(callHeaders(method, token));
  let status: string | undefined;
  const said = (headers: object) => {
    const value: unknown = Reflect.get(headers, "grpc-status");
    if (typeof value === "string") status = value;
  };
  stream.on("response", said);
  stream.on("trailers", said);
  stream.on("error", () => {});
  stream.resume();
  return { stream, status: () => status };
}

/** The start of a message that says it has almost 4 MiB. */
const LARGE = Buffer.concat([Uint8Array.of(0, 0, 62, 0, 0), Buffer.alloc(60_000)]);
const DENIED = "7";

test.each(["Probe", "ProbeIndirect", "PushPull"])("%s: 4 MB of who shows no token are refused before they are here", async (method) => {
  const stranger = called(method, "");
  stranger.stream.write(LARGE);
  await until("it is refused", () => stranger.status() !== undefined);
  expect(stranger.status()).toBe(DENIED);
  const guessing = called(method, "another-secret-altogether");
  guessing.stream.write(LARGE);
  await until("it is refused too", () => guessing.status() !== undefined);
  expect(guessing.status()).toBe(DENIED);
});

test("a stranger's small call is refused by the name it gives, as the audit says", async () => {
  const members = [updateOf("stranger-7", { clusterId: "c1", region: "eu" })];
  const small = called("PushPull", "");
  small.stream.end(framed(encodeCallRequest({ kind: "pushPull", from: nodeRef("stranger-7"), isJoin: true, members })));
  await until("it is refused", () => small.status() !== undefined);
  expect(small.status()).toBe(DENIED);
  const audited = async () => (await node.run(["audit", "list", "--reason", "wrong_token", "-o", "json"])).stdout;
  await until("audited", async () => (await audited()).includes("nodeId=stranger-7"));
});

test("thousands of half calls of strangers cost a peer's call nothing", async () => {
  for (let i = 0; i < 20; i++) {
    const session = connect(`http://${node.listeners["fabric"]}`);
    session.on("error", () => {});
    sessions.push(session);
    await once(session, "connect"); // A ping before that is answered by nobody, and calls back all the same.
    for (let j = 0; j < 60; j++) {
      const stream = session.request(callHeaders("PushPull", ""));
      stream.on("error", () => {});
      stream.resume();
      stream.write(Uint8Array.of(0, 0, 0, 16, 0, 1));
    }
    await new Promise<void>((resolve) => void session.ping(() => resolve()));
  }
  const peer = called("PushPull", TOKEN);
  peer.stream.end(framed(encodeCallRequest({ kind: "pushPull", from: nodeRef("b"), isJoin: true, members: [] })));
  await until("it is answered", () => peer.status() !== undefined);
  expect(peer.status()).toBe("0");
});

test("the node sends peers fabric.advertise_port instead of the port on which it listens", async () => {
  const answer = await fetch(`http://${node.listeners["http"]}/control/peers`);
  expect(await answer.json()).toMatchObject({ peers: [{ nodeId: "a", address: `127.0.0.1:${ADVERTISED_PORT}` }] });
});
