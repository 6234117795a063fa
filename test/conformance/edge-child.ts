/** As server-child.ts, for the HTTP edge: calls with one request and one answer in the Connect protocol. The runner ends the process. */
import { createServer } from "node:net";
import { createServer as createTlsServer } from "node:tls";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Metrics } from "../../src/lib/metrics/metrics.ts";
import { EdgeDispatcher } from "../../src/server/edge/listener.io.ts";
import { EdgeSockets } from "../../src/server/edge/sockets.io.ts";
import { EDGE_LIMITS } from "../fakes/listener-limits.ts";
import { delimited, delimitedMessages } from "./delimited.ts";
import { conformanceChain, conformanceEdgeService, exchanges, registry } from "./edge-service.ts";
import { ServerCompatRequestSchema, ServerCompatResponseSchema } from "./gen/connectrpc/conformance/v1/server_compat_pb.js";

for await (const bytes of delimitedMessages(process.stdin)) {
  const { useTls, serverCreds, clientTlsCert, messageReceiveLimit } = fromBinary(ServerCompatRequestSchema, bytes);
  const limits = { ...EDGE_LIMITS, ...(messageReceiveLimit !== 0 && { maxMessageBytes: messageReceiveLimit }) };
  const dispatcher = new EdgeDispatcher(
    {
      services: [conformanceEdgeService],
      chain: conformanceChain,
      metrics: new Metrics(),
      onCut: () => {},
      registry,
      sources: {
        metricsAccess: "off",
        openApiAccess: "off",
        openApi: () => Promise.reject(new Error("not served")),
        readiness: () => ({ isDraining: false, checks: [] }),
        scrape: () => Promise.reject(new Error("no metrics here")),
        persistence: () => undefined,
      },
    },
    limits,
  );
  const sockets: EdgeSockets = new EdgeSockets(limits, {
    onRequest: (request, response, transport) =>
      exchanges.run({ request, response }, () =>
        dispatcher.take(request, response, { transport, connection: sockets.connectionOf(request) }),
      ),
    onCut: () => {},
  });
  const listener =
    useTls && serverCreds !== undefined
      ? createTlsServer(
          {
            cert: Buffer.from(serverCreds.cert),
            key: Buffer.from(serverCreds.key),
            ALPNProtocols: ["h2", "http/1.1"],
            ...(clientTlsCert.length > 0 ? { ca: Buffer.from(clientTlsCert), requestCert: true, rejectUnauthorized: true } : {}),
          },
          (socket) => sockets.accept(socket),
        )
      : createServer((socket) => sockets.accept(socket));
  listener.listen({ host: "127.0.0.1", port: 0 }, () => {
    const address = listener.address();
    const port = typeof address === "object" && address !== null ? address.port : 0;
    const pemCert = useTls && serverCreds !== undefined ? { pemCert: serverCreds.cert } : {};
    const response = create(ServerCompatResponseSchema, { host: "127.0.0.1", port, ...pemCert });
    process.stdout.write(delimited(toBinary(ServerCompatResponseSchema, response)));
  });
}
