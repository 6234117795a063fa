// Command nats-server is the NATS server as its own module builds it.
package main

import (
	"flag"
	"log"
	"os"

	"github.com/nats-io/nats-server/v2/server"
)

func main() {
	flags := flag.NewFlagSet("nats-server", flag.ExitOnError)
	options, err := server.ConfigureOptions(flags, os.Args[1:], server.PrintServerAndExit, flags.Usage, server.PrintTLSHelpAndDie)
	if err != nil {
		log.Fatal(err)
	}
	nats, err := server.NewServer(options)
	if err != nil {
		log.Fatal(err)
	}
	nats.ConfigureLogger()
	if err := server.Run(nats); err != nil {
		log.Fatal(err)
	}
	nats.WaitForShutdown()
}
