// Command consul is the Consul agent as its own module builds it.
package main

import (
	"fmt"
	"io"
	"log"
	"os"

	"github.com/hashicorp/consul/command"
	consulcli "github.com/hashicorp/consul/command/cli"
	"github.com/mitchellh/cli"
)

func main() {
	log.SetOutput(io.Discard)
	ui := &consulcli.BasicUI{BasicUi: cli.BasicUi{Writer: os.Stdout, ErrorWriter: os.Stderr}}
	program := &cli.CLI{Name: "consul", Args: os.Args[1:], Commands: command.RegisteredCommands(ui), HelpWriter: os.Stdout, ErrorWriter: os.Stderr}
	code, err := program.Run()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}
