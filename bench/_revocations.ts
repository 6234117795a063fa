/** The time from the call that revokes a node or a token until every node has cut its connections and streams, and refuses new ones. */
import { once } from "node:events";
import { connect, type TLSSocket } from "node:tls";
import type { IdentityFleet } from "./_identity-fleet.ts";
import { sleep, until } from "./_mesh.ts";
import { scratchDir } from "./_processes.ts";
import { Wire } from "./_wire.ts";
import { exactQuery, PATH, watchBytes } from "./_work.ts";

/** A connection that is still open after this time (ms) was accepted. */
const ACCEPTED_MS = 250;
const AGAIN_MS = 10;

export interface CutTimes {
  /** Time until the last connection or stream was cut, and until the last node refused a new one. */
  readonly cutMs: number;
  readonly refusedMs: number;
}

/** Revokes a node that has a connection to the fabric port of each node. */
export async function revokeNode(fleet: IdentityFleet, name: string): Promise<CutTimes> {
  const pem = await fleet.join(name, scratchDir(name));
  const sockets = await Promise.all(fleet.fabrics.map((fabric) => opened(fabric, pem)));
  const closed = sockets.map((socket) => once(socket, "close"));
  await sleep(ACCEPTED_MS);
  if (sockets.some(({ destroyed }) => destroyed)) throw new Error(`a node has closed a connection of ${name} before it was revoked`);
  const startMs = performance.now();
  await fleet.revokeNode(name);
  await Promise.all(closed);
  const cutMs = performance.now() - startMs;
  await Promise.all(fleet.fabrics.map((fabric) => until(() => isRefused(fabric, pem), "the node is refused")));
  return { cutMs, refusedMs: performance.now() - startMs };
}

function opened(fabric: string, pem: Buffer): Promise<TLSSocket> {
  const [host = "", port = ""] = fabric.split(":");
  return new Promise((resolve, reject) => {
    const options = { host, port: Number(port), cert: pem, key: pem, rejectUnauthorized: false, ALPNProtocols: ["h2"] } as const;
    const socket: TLSSocket = connect({ ...options, servername: "member.waymark" }, () => resolve(socket));
    socket.on("error", reject);
    socket.resume();
  });
}

async function isRefused(fabric: string, pem: Buffer): Promise<boolean> {
  const socket = await opened(fabric, pem).catch(() => undefined);
  if (socket === undefined) return true;
  const isClosed = await Promise.race([once(socket, "close").then(() => true), sleep(ACCEPTED_MS).then(() => false)]);
  socket.destroy();
  return isClosed;
}

/** Revokes a caller's token with an open watch on each node. */
export async function revokeToken(fleet: IdentityFleet): Promise<CutTimes> {
  const { token, accessor } = await fleet.createCredential();
  const accepts = (wire: Wire) =>
    wire.unary(PATH.query, exactQuery(0)).then(
      () => true,
      () => false,
    );
  const wires = await Promise.all(fleet.nodes.map(({ grpc }) => Wire.open(grpc, { token })));
  for (const wire of wires) await until(() => accepts(wire), "the token is accepted");
  const ended = wires.map((wire) => {
    const { promise, resolve } = Promise.withResolvers<string>();
    const stream = wire.stream(PATH.watch, { onMessage: () => {}, onEnd: resolve });
    stream.send(watchBytes());
    stream.end();
    return promise;
  });
  await sleep(ACCEPTED_MS);
  const startMs = performance.now();
  await fleet.revokeCredential(accessor);
  const refused = Promise.all(wires.map((wire) => refusing(wire, accepts)));
  await Promise.all(ended);
  const cutMs = performance.now() - startMs;
  await refused;
  const refusedMs = performance.now() - startMs;
  for (const wire of wires) wire.close();
  return { cutMs, refusedMs };
}

async function refusing(wire: Wire, accepts: (wire: Wire) => Promise<boolean>): Promise<void> {
  while (await accepts(wire)) await sleep(AGAIN_MS);
}
