/**
 * The floor under every gRPC answer of ours: a bare node:http2 server that answers each message, of a unary call or of a stream, with as many
 * bytes as it is told, and decodes nothing. It prints its port.
 */
import { createServer } from "node:http2";
import type { AddressInfo, Socket } from "node:net";

const answer = Buffer.alloc(Number(process.argv[2] ?? 0) + 5);
answer.writeUInt32BE(answer.length - 5, 1);

const server = createServer();
server.on("connection", (socket: Socket) => socket.setNoDelay(true));
server.on("stream", (stream) => {
  stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
  stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
  stream.on("error", () => {});
  let left: Buffer = Buffer.alloc(0);
  stream.on("data", (chunk: Buffer) => {
    left = left.length === 0 ? chunk : Buffer.concat([left, chunk]);
    while (left.length >= 5 && left.length >= 5 + left.readUInt32BE(1)) {
      left = left.subarray(5 + left.readUInt32BE(1));
      stream.write(answer);
    }
  });
  stream.on("end", () => stream.end());
});
server.listen(0, "127.0.0.1", () => console.log((server.address() as AddressInfo).port));
