/** A unary call over a connection: one callback with everything that came. */
import { expect, test } from "vitest";
import type { CallListener, ClientCall } from "../../src/grpc/client/client-call.ts";
import { callUnary, type UnaryAnswer } from "../../src/grpc/client/unary.ts";
import { GrpcMetadata } from "../../src/grpc/wire/metadata.ts";
import { OK } from "../../src/grpc/wire/status.ts";
import { CODES } from "../../src/lib/errors.ts";

function called() {
  const answers: UnaryAnswer[] = [];
  const sent: string[] = [];
  let listener: CallListener | undefined;
  const call = { halfClose: (message: Uint8Array) => sent.push(Buffer.from(message).toString()) } as unknown as ClientCall;
  const connection = {
    start: (request: { readonly path: string; readonly isSingleResponse: boolean }, told: CallListener) => {
      sent.push(`${request.path} ${request.isSingleResponse}`);
      listener = told;
      return call;
    },
  };
  const made = callUnary(connection, { path: "/t/U", message: Buffer.from("q") }, (answer) => answers.push(answer));
  return { answers, sent, made, call, listener: listener as CallListener };
}

const END = { trailers: new GrpcMetadata(), isFromServer: true, isUnprocessed: false, isMalformed: false };

test("the request goes out at once, and the answer comes with its metadata and status", () => {
  const { answers, sent, made, call, listener } = called();
  expect([sent, made === call]).toEqual([["/t/U true", "q"], true]);
  const metadata = new GrpcMetadata().add("x-a", "1");
  listener.metadata?.(metadata);
  listener.message(Uint8Array.of(7));
  expect(answers).toEqual([]);
  listener.closed({ ...END, status: OK });
  expect(answers).toEqual([{ ...END, status: OK, message: Uint8Array.of(7), metadata }]);
});

test("a call that fails has no message", () => {
  const { answers, listener } = called();
  const status = { code: CODES.ABORTED, message: "no" } as const;
  listener.closed({ ...END, status });
  expect(answers).toMatchObject([{ status, message: undefined }]);
});
