/** DNS over TLS (RFC 7858): a listener that uses the certificates of the node's other listeners. */
import type { Socket } from "node:net";
import { TLSSocket } from "node:tls";
import type { Settings } from "../../config/settings.ts";
import type { DnsGatewayOptions } from "../../dns/server/server.io.ts";
import { type ListenerTlsFiles, openFileAcceptor } from "../../grpc/server/tls-files.io.ts";
import type { Log } from "../../lib/log.io.ts";
import type { ListeningPort } from "../../lib/shared-port.io.ts";
import { identifyPeer } from "../../server/peer.io.ts";

const DOT = "dot";

/** According to RFC 9103, 7.1 and 7.2, zones are transferred only over TLS 1.3 and with the ALPN protocol. Other queries need neither. */
function mayTransfer(socket: Socket): boolean {
  return socket instanceof TLSSocket && socket.alpnProtocol === DOT && socket.getProtocol() === "TLSv1.3";
}

/** Returns the files that the settings name, or undefined without TLS. */
export function tlsFiles({ tls }: Settings): ListenerTlsFiles | undefined {
  const { certFile, keyFile } = tls;
  if (certFile === undefined || keyFile === undefined) return undefined;
  const { caFile: clientCaFile, crlFile, requireClientCert, minVersion } = tls;
  return { certFile, keyFile, clientCaFile, crlFile, isClientOptional: !requireClientCert, minVersion: `TLSv${minVersion}` };
}

interface DnsTlsPort {
  readonly port: number | undefined;
}

/** Returns the function with which the gateway opens the listener, or undefined if no port is set for it. */
export function dnsTls(
  at: Omit<ListeningPort, "port"> & DnsTlsPort,
  tls: ListenerTlsFiles | undefined,
  log: Log,
): DnsGatewayOptions["openTls"] {
  const { host, port, sharing } = at;
  if (port === undefined || tls === undefined) return undefined;
  return async ({ maxConnections, accept, dropped }) => {
    const acceptor = await openFileAcceptor({
      host,
      port,
      sharing,
      portFlag: "dns.tls_port",
      tls,
      protocols: [DOT],
      // Allows as many connections in the handshake as established ones. The gateway limits the established ones.
      maxConnections: 2 * maxConnections,
      onConnection: (socket) => accept(socket, { ...identifyPeer(socket, socket), mayTransfer: mayTransfer(socket) }),
      onDrop: () => dropped("overload"),
      onHandshakeFailed: () => dropped("handshake"),
      onError: (error) => log.warn({ listener: "dot", err: error }, "connection not accepted"),
      onReload: () => log.info({ listener: "dot" }, "certificates reloaded"),
      onReloadFailed: (error) => log.warn({ listener: "dot", err: error }, "certificate reload failed, keeping the current certificates"),
    });
    return {
      port: acceptor.port,
      reload: () => acceptor.reloadTls(),
      close: () => acceptor.close(),
      cut: () => acceptor.sockets.forEach((socket) => socket.destroy()),
    };
  };
}
