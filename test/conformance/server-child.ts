/** The server under test of the conformance suite: reads a ServerCompatRequest, serves, and says where. The runner ends the process. */
import { createServer } from "node:net";
import { createServer as createTlsServer } from "node:tls";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { GrpcServer } from "../../src/grpc/server/server.io.ts";
import { SharedInflater } from "../../src/grpc/wire/inflater.io.ts";
import { GRPC_LIMITS } from "../fakes/listener-limits.ts";
import { delimited, delimitedMessages } from "./delimited.ts";
import { ServerCompatRequestSchema, ServerCompatResponseSchema } from "./gen/connectrpc/conformance/v1/server_compat_pb.js";
import { conformanceMethods } from "./service.ts";

for await (const bytes of delimitedMessages(process.stdin)) {
  const { useTls, serverCreds, clientTlsCert, messageReceiveLimit } = fromBinary(ServerCompatRequestSchema, bytes);
  const server = new GrpcServer({
    methods: conformanceMethods(),
    limits: { ...GRPC_LIMITS, ...(messageReceiveLimit !== 0 && { maxReceiveBytes: messageReceiveLimit }) },
    inflater: new SharedInflater(),
  });
  const listener =
    useTls && serverCreds !== undefined
      ? createTlsServer(
          {
            cert: Buffer.from(serverCreds.cert),
            key: Buffer.from(serverCreds.key),
            ALPNProtocols: ["h2"],
            ...(clientTlsCert.length > 0 ? { ca: Buffer.from(clientTlsCert), requestCert: true, rejectUnauthorized: true } : {}),
          },
          (socket) => server.accept(socket),
        )
      : createServer((socket) => server.accept(socket));
  listener.listen({ host: "127.0.0.1", port: 0 }, () => {
    const address = listener.address();
    const port = typeof address === "object" && address !== null ? address.port : 0;
    const response = create(ServerCompatResponseSchema, {
      host: "127.0.0.1",
      port,
      ...(useTls && serverCreds !== undefined ? { pemCert: serverCreds.cert } : {}),
    });
    process.stdout.write(delimited(toBinary(ServerCompatResponseSchema, response)));
  });
}
