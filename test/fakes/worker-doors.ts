/** Connections to a node with read workers, of which one knows the worker: its number is in the ids that it gives to calls. */
import { Agent } from "node:http";
import type { DescService } from "@bufbuild/protobuf";
import { type Client, ConnectError, createClient, type Interceptor, type Transport } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { Health } from "../../gen/grpc/health/v1/health_pb.js";
import { DiscoveryService } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { PolicyService } from "../../gen/waymark/policy/v1/policy_pb.js";
import { TOKENS, type Who } from "./limited-node.ts";
import type { NodeProcess } from "./node-process.ts";

type Kind = "grpc" | "json";

/** A stranger presents a token that nobody has. */
export type Caller = Who | "stranger";

/** The system gives a new connection to any worker. That so many all reach the same one of two will not be seen. */
const MAX_TRIES = 64;

/** One connection, so one worker. */
export class WorkerDoor implements Disposable {
  readonly kind: Kind;
  /** From 1 on; 0 until the first answer. */
  worker = 0;
  readonly #transportOf: (interceptors: Interceptor[]) => Transport;
  readonly #close: () => void;

  private constructor(kind: Kind, { listeners }: NodeProcess) {
    this.kind = kind;
    if (kind === "grpc") {
      const baseUrl = `http://${listeners["grpc"]}`;
      const sessionManager = new Http2SessionManager(baseUrl);
      this.#transportOf = (interceptors) => createGrpcTransport({ baseUrl, sessionManager, interceptors });
      this.#close = () => sessionManager.abort();
    } else {
      const baseUrl = `http://${listeners["http"]}`;
      const agent = new Agent({ keepAlive: true, maxSockets: 1 });
      const nodeOptions = { agent };
      this.#transportOf = (interceptors) => createConnectTransport({ baseUrl, httpVersion: "1.1", nodeOptions, interceptors });
      this.#close = () => agent.destroy();
    }
  }

  static async open(kind: Kind, node: NodeProcess): Promise<WorkerDoor> {
    const door = new WorkerDoor(kind, node);
    // Over gRPC only a refusal says the id. This one costs nothing, and is no matter for the audit.
    await door
      .#client(Health, "operator")
      .check({ service: "no.such.Service" })
      .catch(() => {});
    if (door.worker === 0) throw new Error("a refusal without the id of its call");
    return door;
  }

  discovery(who: Caller): Client<typeof DiscoveryService> {
    return this.#client(DiscoveryService, who);
  }

  policy(who: Caller): Client<typeof PolicyService> {
    return this.#client(PolicyService, who);
  }

  [Symbol.dispose](): void {
    this.#close();
  }

  #client<S extends DescService>(service: S, who: Caller): Client<S> {
    const asked: Interceptor = (next) => async (request) => {
      request.header.set("authorization", `Bearer ${who === "stranger" ? "nobody-has-this" : TOKENS[who]}`);
      try {
        const answer = await next(request);
        this.#note(answer.header);
        return answer;
      } catch (error) {
        this.#note(ConnectError.from(error).metadata);
        throw error;
      }
    };
    return createClient(service, this.#transportOf([asked]));
  }

  /** A connection that was made anew in between would reach any worker, and the test would prove nothing. */
  #note(headers: Headers): void {
    const [, worker] = /-(\d+)-[0-9a-z]+$/.exec(headers.get("x-request-id") ?? "") ?? [];
    if (worker === undefined) return;
    if (this.worker !== 0 && this.worker !== Number(worker)) throw new Error(`worker ${worker} answers where worker ${this.worker} did`);
    this.worker = Number(worker);
  }
}

/** A door of each of these kinds to each of the workers 1 to `workerCount`, so that neighbours in the list are of different workers. */
export async function openWorkerDoors(
  node: NodeProcess,
  workerCount: number,
  kinds: readonly Kind[] = ["grpc"],
): Promise<readonly WorkerDoor[]> {
  const doors: WorkerDoor[] = [];
  for (const kind of kinds) {
    const ofKind = new Map<number, WorkerDoor>();
    for (let tried = 0; ofKind.size < workerCount; tried++) {
      if (tried === MAX_TRIES) throw new Error(`${MAX_TRIES} connections, and none to some of the ${workerCount} workers`);
      const door = await WorkerDoor.open(kind, node);
      if (ofKind.has(door.worker)) door[Symbol.dispose]();
      else ofKind.set(door.worker, door);
    }
    doors.push(...[...ofKind.values()].toSorted((a, b) => a.worker - b.worker));
  }
  return doors;
}
