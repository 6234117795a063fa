/** The work of the owners of shards in tests: a gRPC method that takes an item and answers with the instance that has done it. */
import { Client, credentials, Metadata, type ServiceDefinition } from "@grpc/grpc-js";
import { SHARD_METADATA, type ShardRoute } from "../../src/client/index.ts";

const PATH = "/test.Work/Do";
const encode = (text: string): Buffer => Buffer.from(text);
const decode = (bytes: Buffer): string => bytes.toString();
const TIMEOUT_MS = 5000;

export const WORK_SERVICE: ServiceDefinition = {
  do: {
    path: PATH,
    requestStream: false,
    responseStream: false,
    requestSerialize: encode,
    requestDeserialize: decode,
    responseSerialize: encode,
    responseDeserialize: decode,
  },
};

/** Calls owners. It has one connection to each of them. */
export class WorkCalls implements Disposable {
  readonly #clients = new Map<string, Client>();

  /** Resolves with the instance that has done the work. */
  do({ target, metadata }: ShardRoute, item: string): Promise<string> {
    const client = this.#clients.get(target) ?? new Client(target, credentials.createInsecure(), { "grpc.enable_http_proxy": 0 });
    this.#clients.set(target, client);
    const headers = new Metadata();
    headers.set(SHARD_METADATA, metadata);
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    client.makeUnaryRequest(PATH, encode, decode, item, headers, { deadline: Date.now() + TIMEOUT_MS }, (error, answer) => {
      if (error === null) resolve(answer ?? "");
      else reject(error);
    });
    return promise;
  }

  [Symbol.dispose](): void {
    for (const client of this.#clients.values()) client.close();
  }
}
