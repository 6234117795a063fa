/** Services (handlers over messages) as methods of src/grpc, without the chain that a node puts between them. */
import { type DescMethod, fromBinary, type Message, toBinary } from "@bufbuild/protobuf";
import { bidiMethod } from "../../src/grpc/server/async-handlers.io.ts";
import { serverStreamMethod, unaryMethod } from "../../src/grpc/server/handlers.ts";
import type { Method } from "../../src/grpc/server/method.ts";
import type { CallContext, Handler, Service } from "../../src/services/service.ts";

const TIME = { monoMs: 0, wallMs: 0 };
const CONTEXT = { time: TIME, requestId: "test" } as unknown as CallContext;

function methodOf(desc: DescMethod, handler: Handler): Method {
  const path = `/${desc.parent.typeName}/${desc.name}`;
  const decoded = (bytes: Uint8Array) => fromBinary(desc.input, bytes) as never;
  const encoded = (answer: Message | Uint8Array) => (answer instanceof Uint8Array ? answer : toBinary(desc.output, answer));
  switch (handler.kind) {
    case "unary":
      return unaryMethod(path, async (request) => encoded(await handler.handle(decoded(request), CONTEXT)));
    case "serverStream":
      return serverStreamMethod(path, (request) => {
        const source = handler.open(decoded(request), CONTEXT);
        return { attach: (wake, end) => source.attach(wake, end), pull: () => source.pull(TIME), close: () => source.close() };
      });
    case "echoStream":
      return bidiMethod(path, async function* (requests) {
        for await (const request of requests) yield encoded(await handler.handle(decoded(request), CONTEXT));
      });
  }
}

export function methodsOf(services: readonly Service[]): readonly Method[] {
  return services.flatMap(({ desc, handlers }) =>
    desc.methods.flatMap((method) => {
      const handler = handlers[method.localName];
      return handler === undefined ? [] : [methodOf(method, handler)];
    }),
  );
}
