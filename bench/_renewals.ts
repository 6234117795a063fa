/** Leases of both peers, and their renewal over one stream as a client keeps it open. */
import { countField, field } from "./_frames.ts";
import type { Running } from "./_processes.ts";
import { Wire } from "./_wire.ts";
import { ask, driveAll, fail, leaseIn, PATH, registerBytes } from "./_work.ts";
import { ETCD_PATH, etcdGrant, etcdPut } from "./adapters/etcd-messages.ts";

/** Messages on a stream ahead of its answers. */
export const AHEAD = 8;
const OVER = { inFlight: 64, connections: 4 } as const;
/** Ids of leases at etcd, beyond those that other work takes. */
const FIRST_ETCD_LEASE = 1_000_000_000;

/** Which leases are made, each with one entry. */
interface Wanted {
  readonly count: number;
  /** The first lease's entry. */
  readonly from?: number;
}

/** Leases in the order of their entries. */
export interface Held {
  readonly ids: readonly string[];
  /** One message a lease, which renews it. */
  readonly messages: readonly Uint8Array[];
}

export async function nodeLeases(node: Running, { count, from = 0, version }: Wanted & { readonly version: number }): Promise<Held> {
  const ids: string[] = [];
  await driveAll(node, { count, ...OVER }, async (wire, i) => {
    ids[i] = leaseIn(await wire.unary(PATH.register, registerBytes(from + i, from + i + 1, { isStatic: false, version })));
  });
  return { ids, messages: ids.map((id) => field(1, id)) };
}

export function etcdLeaseId(i: number): number {
  return FIRST_ETCD_LEASE + i;
}

/** One message a lease, which renews it. */
export async function etcdLeases(
  etcd: Running,
  { count, from = 0, value }: Wanted & { readonly value: Uint8Array },
): Promise<readonly Uint8Array[]> {
  await driveAll(etcd, { count, ...OVER }, async (wire, i) => {
    await wire.unary(ETCD_PATH.grant, etcdGrant(etcdLeaseId(i)));
    await wire.unary(ETCD_PATH.put, etcdPut(from + i, value, etcdLeaseId(i)));
  });
  return Array.from({ length: count }, (_, i) => field(1, etcdLeaseId(i)));
}

/** Bytes of the answer to a renewal of one lease. */
export async function renewalBytes(node: Running, { messages }: Held): Promise<number> {
  return (await ask(node, PATH.keepAlive, messages[0] ?? fail())).length;
}

/** `count` messages as one: fields that may repeat. */
export function together(messages: readonly Uint8Array[], count: number): readonly Uint8Array[] {
  return Array.from({ length: messages.length / count }, (_, i) => Buffer.concat(messages.slice(i * count, (i + 1) * count)));
}

/** Why an answer is none to a renewal; undefined where it is good. A bare server answers nothing that could be read. */
function faultIn(server: Running, bytes: Buffer, start: number, end: number): string | undefined {
  // Field 1 of ours names leases that have expired. Field 3 of etcd's is the ttl, which is 0 and so absent for a lease that is gone.
  if (server.name === "waymark" && countField(bytes, start, end, 0x0a) > 0) return "a lease has expired";
  if (server.name === "etcd" && countField(bytes, start, end, 0x18) === 0) return "a lease is gone";
  return undefined;
}

/** Sends the messages on one stream `times` over, a few ahead of the answers. Rejects when an answer says that a lease is not renewed. */
export async function renew(server: Running, messages: readonly Uint8Array[], times: number): Promise<void> {
  const path = server.name === "etcd" ? ETCD_PATH.keepAlive : PATH.keepAlive;
  const wire = await Wire.open(server.grpc);
  const count = messages.length * times;
  await new Promise<void>((resolve, reject) => {
    let sent = 0;
    let answered = 0;
    const stream = wire.stream(path, {
      onMessage: (bytes, start, end) => {
        const fault = faultIn(server, bytes, start, end);
        if (fault !== undefined) reject(new Error(`${server.name}: ${fault}`));
        answered += 1;
        if (answered === count) resolve();
        else sendNext();
      },
      onEnd: () => reject(new Error(`${path} ended`)),
    });
    const sendNext = () => {
      const message = messages[sent % messages.length];
      if (sent++ < count && message !== undefined) stream.send(message);
    };
    for (let i = 0; i < AHEAD; i++) sendNext();
  });
  wire.close();
}
