/** gzip for Connect: inflates requests within the budget shared by all listeners, and charges the cost to the call's connection. */
import { AsyncLocalStorage } from "node:async_hooks";
import { promisify } from "node:util";
import { gzip } from "node:zlib";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Compression } from "@connectrpc/connect/protocol";
import type { InflateResult, Inflater } from "../../grpc/wire/message-reader.ts";
import { WaymarkError } from "../../lib/errors.ts";
import type { EdgeCall } from "./call.ts";

/**
 * This store provides the call, because Connect does not pass the call to a compression. Only requests that may be compressed run inside the store.
 */
const inflating = new AsyncLocalStorage<EdgeCall>();

/**
 * Runs `serve`. Messages that are inflated while the function runs are charged to this call. The query string of a GET declares whether it is
 * compressed.
 */
export function withInflation<T>(call: EdgeCall, isGet: boolean, serve: () => T): T {
  const { header } = call.arrival;
  return !isGet &&
    header("content-encoding") === undefined &&
    header("connect-content-encoding") === undefined &&
    header("grpc-encoding") === undefined
    ? serve()
    : inflating.run(call, serve);
}

export function gzipWithin(inflater: Inflater): Compression {
  return {
    name: "gzip",
    compress: promisify(gzip),
    decompress: (bytes, maxMessageBytes) => {
      const call = inflating.getStore();
      if (call === undefined) throw new Error("a compressed message reached Connect outside a call");
      return new Promise((resolve, reject) => {
        const inflation = inflater.inflate({ encoding: "gzip", bytes, owner: call.arrival.owner, maxMessageBytes });
        call.hold(inflation);
        const settle = (result: InflateResult) => {
          if (result instanceof WaymarkError) return reject(connectErrorOf(result));
          const fault = call.look(result);
          if (fault !== undefined) return reject(fault);
          // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- zlib's buffers are never shared.
          resolve(new Uint8Array(result.buffer as ArrayBuffer, result.byteOffset, result.byteLength));
        };
        if (inflation.result === undefined) inflation.onResult = settle;
        else settle(inflation.result);
      });
    },
  };
}

/** Wraps an error so that Connect passes it on. `readingRefusal` unwraps the error. */
function connectErrorOf(error: WaymarkError): ConnectError {
  const code = error.reason === "quota_exceeded" ? Code.ResourceExhausted : Code.InvalidArgument;
  return new ConnectError(error.message, code, undefined, undefined, error);
}
