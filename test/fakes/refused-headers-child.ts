/**
 * A process whose connections go to one server of a test, many at a time, and end as soon as their call does: those of a gRPC client, which are
 * destroyed or drained, or of probes. Prints `alive` at its end.
 */
import { once } from "node:events";
import { connect } from "node:net";
import { ProbeAllowList } from "../../src/discovery/checks/probe-allow-list.ts";
import { ClientConnection } from "../../src/grpc/client/connection.io.ts";
import { callUnary } from "../../src/grpc/client/unary.ts";
import { Prober } from "../../src/node/checks/prober.io.ts";
import { CLIENT_LIMITS } from "./grpc-room.ts";

const [kind = "", portText = ""] = process.argv.slice(2);
const port = Number(portText);
const [ROUNDS, AT_A_TIME] = [10, 50];
const prober = new Prober(new ProbeAllowList(["127.0.0.0/8"]));

async function called(end: (connection: ClientConnection) => void): Promise<void> {
  const socket = connect({ host: "127.0.0.1", port });
  await once(socket, "connect");
  const connection = new ClientConnection(socket, { authority: "localhost", scheme: "http", limits: CLIENT_LIMITS });
  await new Promise<void>((resolve) => {
    callUnary(connection, { path: "/t/Echo", message: new Uint8Array() }, () => {
      end(connection);
      resolve();
    });
  });
}

const KINDS: Readonly<Record<string, () => Promise<unknown>>> = {
  destroyed: () => called((connection) => connection.destroy()),
  closed: () => called((connection) => connection.close()),
  probed: () => prober.probe({ kind: "grpc", host: "127.0.0.1", port, isTls: false, service: "web", timeoutMs: 10_000 }),
};

const act = KINDS[kind];
if (act === undefined) throw new Error(`no kind ${kind}`);
for (let round = 0; round < ROUNDS; round++) await Promise.all(Array.from({ length: AT_A_TIME }, act));
process.stdout.write("alive\n", () => process.exit(0));
