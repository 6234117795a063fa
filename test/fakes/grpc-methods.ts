/** Methods of every kind that a test of src/grpc may call, and what they saw. */

import type { GrpcMethod, MethodCall } from "../../src/grpc/server/method.ts";
import { StatusError } from "../../src/grpc/wire/status.ts";
import { CODES } from "../../src/lib/errors.ts";
import { bidiMethod, clientStreamMethod, serverStreamOf } from "./grpc-async-handlers.ts";
import { serverStreamMethod, unaryMethod } from "./grpc-handlers.ts";
import { bytes, metadata, textOf } from "./grpc-room.ts";

export interface Seen {
  /** Why calls of "/t/Hold" and "/t/Endless" were cancelled. */
  readonly cancelled: string[];
  /** Calls of "/t/Hold" that wait. */
  readonly held: MethodCall[];
  pulled: number;
}

export function methods(): { readonly methods: readonly GrpcMethod[]; readonly seen: Seen } {
  const seen: Seen = { cancelled: [], held: [], pulled: 0 };
  const chunk = new Uint8Array(64 * 1_024);
  return {
    seen,
    methods: [
      unaryMethod("/t/Echo", (request) => request),
      unaryMethod("/t/Later", (request) => Promise.resolve(request)),
      unaryMethod("/t/Fail", (request) => {
        throw new StatusError({ code: CODES.NOT_FOUND, message: `keine „${textOf(request)}“ 100 %`, details: bytes("detail") });
      }),
      unaryMethod("/t/Bug", () => {
        throw new TypeError("secret of the stack");
      }),
      unaryMethod("/t/LateFail", () => Promise.reject(new StatusError({ code: CODES.ABORTED, message: "late" }))),
      unaryMethod("/t/Large", (request) => new Uint8Array(Number(textOf(request)))),
      {
        path: "/t/Meta",
        kind: "unary",
        handle: (request, call) => {
          call.sendMetadata(metadata(["x-lead", textOf(request)], ["x-lead-bin", Uint8Array.of(0, 255)]));
          call.respond(
            bytes(JSON.stringify([...call.metadata].map(([name, value]) => [name, String(value)]))),
            metadata(["x-trail", "a"], ["x-trail", "b"]),
          );
        },
      },
      {
        path: "/t/Hold",
        kind: "unary",
        handle: (_request, call) => {
          seen.held.push(call);
          call.onCancelled((why) => seen.cancelled.push(why));
        },
      },
      serverStreamOf("/t/Count", async function* (request) {
        for (let i = 0; i < Number(textOf(request)); i++) yield bytes(String(i));
      }),
      serverStreamMethod("/t/Endless", () => ({
        attach: () => {},
        pull: () => {
          seen.pulled += 1;
          return chunk;
        },
        close: () => void seen.cancelled.push("endless"),
      })),
      clientStreamMethod("/t/Sum", async (requests) => {
        let sum = 0;
        for await (const request of requests) sum += Number(textOf(request));
        return bytes(String(sum));
      }),
      bidiMethod("/t/Talk", async function* (requests) {
        for await (const request of requests) yield bytes(`${textOf(request)}!`);
      }),
    ],
  };
}
