# frozen_string_literal: true

# Runs a Ruby function: asks the Runtime API for events, calls the handler, posts what came of it.
#
#     loaded handler --> next --> handler(event:, context:) --> response or error --> next --> ...
#
# - LambdaContext, AwsLambda::Marshaller: what functions see and may replace, by AWS's names
# - FreeholdRuntime: the Runtime API's client, the handler, errors, log lines
#
# The client is by hand on a socket, because loading `net/http` takes longer than all the rest. What functions can observe
# (names, messages, formats, order) is AWS's.

require 'json'
require 'logger'
require 'socket'
require 'stringio'

$stdout.sync = true

# What the handler is told of this event.
class LambdaContext
  attr_reader :aws_request_id, :invoked_function_arn, :log_group_name, :log_stream_name, :function_name,
              :memory_limit_in_mb, :function_version, :identity, :client_context, :deadline_ms, :tenant_id

  def initialize(request)
    @clock_diff = milliseconds(Process::CLOCK_REALTIME) - milliseconds(Process::CLOCK_MONOTONIC)
    @deadline_ms = request['Lambda-Runtime-Deadline-Ms'].to_i
    @aws_request_id = request['Lambda-Runtime-Aws-Request-Id']
    @invoked_function_arn = request['Lambda-Runtime-Invoked-Function-Arn']
    @tenant_id = request['Lambda-Runtime-Aws-Tenant-Id']
    @log_group_name = ENV['AWS_LAMBDA_LOG_GROUP_NAME']
    @log_stream_name = ENV['AWS_LAMBDA_LOG_STREAM_NAME']
    @function_name = ENV['AWS_LAMBDA_FUNCTION_NAME']
    @memory_limit_in_mb = ENV['AWS_LAMBDA_FUNCTION_MEMORY_SIZE']
    @function_version = ENV['AWS_LAMBDA_FUNCTION_VERSION']
    @identity = parsed(request['Lambda-Runtime-Cognito-Identity'])
    @client_context = parsed(request['Lambda-Runtime-Client-Context'])
  end

  def get_remaining_time_in_millis
    [@deadline_ms - milliseconds(Process::CLOCK_MONOTONIC) - @clock_diff, 0].max
  end

  private

  def milliseconds(clock)
    Process.clock_gettime(clock, :millisecond)
  end

  def parsed(text)
    JSON.parse(text) if text
  end
end

module AwsLambda
  # How events and answers are read and written: a function may put methods of its own here.
  class Marshaller
    def self.marshall_request(request)
      request['Content-Type'] == 'application/json' ? JSON.parse(request.body) : request.body
    end

    def self.marshall_response(response)
      case response
      when StringIO, IO then [response, 'application/unknown']
      else response.to_json
      end
    end
  end
end

module FreeholdRuntime
  API = '/2018-06-01/runtime/'
  HANDLER_FORM = 'must be of form FILENAME.METHOD or FILENAME.CLASS.METHOD where FILENAME corresponds with an existing ' \
                 'Ruby source file FILENAME.rb, CLASS is an optional module/class namespace and METHOD is a callable ' \
                 'method. If using CLASS, METHOD must be a class-level method.'
  # Errors whose class is told to the platform by name; all others are the function's own.
  KNOWN_ERRORS = %w[ArgumentError NoMethodError Exception StandardError NameError LoadError SystemExit SystemStackError].freeze
  # How many lines of a backtrace are told.
  TRACE_LINES = 100
  # Exit statuses of AWS's runtime: after an error that may have left the program broken, and after a failed init.
  EXIT_CRITICAL = 255
  EXIT_INIT = 252

  # An answer of the Runtime API.
  class Message
    attr_reader :status, :body

    def initialize(status, fields, body)
      @status = status
      @fields = fields
      @body = body
    end

    def [](name)
      @fields[name.downcase]
    end
  end

  # An HTTP/1.1 client for one server and one connection, which it keeps.
  class Api
    def initialize(address)
      @address = address
      @host, _, @port = address.rpartition(':')
      @socket = nil
    end

    def next
      answer = exchange("GET #{API}invocation/next HTTP/1.1\r\nHost: #{@address}\r\n\r\n", '')
      raise "Received #{answer.status} when waiting for next invocation." unless answer.status == 200

      answer
    end

    def post(path, body, fields)
      head = +"POST #{API}#{path} HTTP/1.1\r\nHost: #{@address}\r\nContent-Length: #{body.bytesize}\r\n"
      fields.each { |name, value| head << "#{name}: #{value.gsub(/[^ -~]/, '?')}\r\n" }
      answer = exchange("#{head}\r\n", body)
      # What is refused (4xx) is the server's to report, such as a response that is too large.
      raise "the Runtime API answered #{answer.status} to #{path}" if answer.status >= 500
    end

    private

    def exchange(head, body)
      kept = !@socket.nil?
      begin
        attempt(head, body)
      rescue SystemCallError, EOFError
        @socket = nil
        raise unless kept

        # A kept connection may have been closed from the other side meanwhile: once more on a new one.
        attempt(head, body)
      end
    end

    def attempt(head, body)
      unless @socket
        @socket = TCPSocket.new(@host, @port.to_i)
        @socket.setsockopt(Socket::IPPROTO_TCP, Socket::TCP_NODELAY, 1)
      end
      @socket.write(head, body)
      receive
    end

    def receive
      status = line.split(' ', 3)[1].to_i
      fields = {}
      until (text = line).empty?
        name, value = text.split(':', 2)
        fields[name.downcase] = value.to_s.strip
      end
      body = fields['transfer-encoding'] == 'chunked' ? chunks : take(fields['content-length'].to_i)
      if fields['connection'] == 'close'
        @socket.close
        @socket = nil
      end
      Message.new(status, fields, body.force_encoding(Encoding::UTF_8))
    end

    def chunks
      body = +''
      until (size = line.to_i(16)).zero?
        body << take(size)
        line
      end
      nil until line.empty?
      body
    end

    def line
      text = @socket.gets("\r\n") or raise EOFError, 'the Runtime API closed the connection'
      text.chomp("\r\n").force_encoding(Encoding::UTF_8)
    end

    def take(size)
      bytes = @socket.read(size)
      raise EOFError, 'the Runtime API closed the connection' if bytes.nil? || bytes.bytesize < size

      bytes
    end
  end

  # The method that `file.method` or `file.Module::Class.method` names.
  class Handler
    attr_reader :file

    def initialize(name)
      parts = name.split('.')
      raise ArgumentError, "Invalid handler #{parts}, #{HANDLER_FORM}" unless [2, 3].include?(parts.size)

      @file = parts.first
      @class = parts[1] if parts.size == 3
      @method = parts.last
      # One for all events: what a method outside of any class keeps in `@variables` is kept here.
      @main = Object.new
    end

    def call(event, context)
      receiver = @class ? Kernel.const_get(@class) : @main
      AwsLambda::Marshaller.marshall_response(receiver.__send__(@method, event: event, context: context))
    end
  end

  # An error as the caller and the log get it.
  class Fault
    def initialize(error, phase)
      @kind = error.class.to_s
      trace = error.backtrace_locations || []
      @told = { errorMessage: error.message, errorType: "#{phase}<#{@kind}>", stackTrace: own(trace) }
    end

    def log(title)
      $stdout.puts(title, JSON.pretty_generate(@told))
    end

    def to_json(*)
      JSON.generate(@told)
    end

    # What the platform counts errors by.
    def header
      { 'Content-Type' => 'application/json',
        'Lambda-Runtime-Function-Error-Type' => KNOWN_ERRORS.include?(@kind) ? @told[:errorType] : 'Function<UserException>' }
    end

    private

    # Up to where our own program begins.
    def own(trace)
      trace.first(TRACE_LINES).map(&:to_s).take_while { |line| !line.start_with?(__FILE__) }
    end
  end

  # Gives loggers that write to the log (or to nowhere) AWS's line, with the request's id in it.
  module LoggerPatch
    def initialize(device = nil, *rest, **options)
      ours = device.nil? || device == $stdout || device == $stderr
      super(ours ? $stdout : device, *rest, **options)
      @default_formatter = LogFormatter.new if ours
    end
  end

  class LogFormatter < Logger::Formatter
    def call(severity, time, program, message)
      id = FreeholdRuntime.request_id
      "#{severity[0]}, [#{format_datetime(time)} ##{$$}] #{severity.rjust(5)} #{id} -- #{program}: #{msg2str(message)}\n"
    end
  end

  class << self
    attr_reader :request_id

    def run
      Logger.prepend(LoggerPatch)
      @api = Api.new(ENV.fetch('AWS_LAMBDA_RUNTIME_API'))
      handler = load_handler
      serve(handler, @api.next) while true
    end

    private

    def load_handler
      root = ENV.fetch('LAMBDA_TASK_ROOT')
      $LOAD_PATH.unshift(root) unless $LOAD_PATH.include?(root)
      handler = Handler.new(ENV.fetch('_HANDLER'))
      require handler.file
      handler
    rescue Exception => e # rubocop:disable Lint/RescueException: a syntax error, a missing file and `exit`, too
      fault = Fault.new(e, 'Init')
      fault.log('Init error when loading handler')
      @api.post('init/error', fault.to_json, fault.header)
      exit(EXIT_INIT)
    end

    def serve(handler, request)
      @request_id = request['Lambda-Runtime-Aws-Request-Id']
      ENV['_X_AMZN_TRACE_ID'] = request['Lambda-Runtime-Trace-Id']
      answer(*handler.call(AwsLambda::Marshaller.marshall_request(request), LambdaContext.new(request)))
    rescue NameError => e
      critical(e)
    rescue StandardError => e
      report(e, 'Error raised from handler method')
    rescue Exception => e # rubocop:disable Lint/RescueException: as AWS does
      critical(e)
    end

    def answer(body, content_type = 'application/json')
      body = body.read if body.respond_to?(:read)
      @api.post("invocation/#{@request_id}/response", body, { 'Content-Type' => content_type })
    end

    def report(error, title)
      fault = Fault.new(error, 'Function')
      fault.log(title)
      @api.post("invocation/#{@request_id}/error", fault.to_json, fault.header)
    end

    # The program may be broken in itself: it is told, and another is started for the next event.
    def critical(error)
      report(error, 'Critical exception from handler')
      exit(EXIT_CRITICAL)
    end
  end
end

FreeholdRuntime.run
