// The emergency brake of ../emergency_brake.py in C++: same topics, parameters and decisions.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <string>

#include <geometry_msgs/msg/twist_stamped.hpp>
#include <rclcpp/rclcpp.hpp>
#include <sensor_msgs/msg/laser_scan.hpp>
#include <std_msgs/msg/bool.hpp>

using geometry_msgs::msg::TwistStamped;
using sensor_msgs::msg::LaserScan;
using std_msgs::msg::Bool;

class EmergencyBrake : public rclcpp::Node
{
public:
  EmergencyBrake() : Node("emergency_brake")
  {
    deceleration_mps2_ = declare_parameter("deceleration_mps2", 4.0);  // what the brakes surely reach
    reaction_s_ = declare_parameter("reaction_s", 0.5);  // from the picture to the brakes
    margin_m_ = declare_parameter("margin_m", 1.0);
    bumper_x_m_ = declare_parameter("bumper_x_m", 2.5);  // from the origin of the scan's frame to the bumper
    half_width_m_ = declare_parameter("half_width_m", 1.1);
    max_age_s_ = declare_parameter("max_age_s", 0.4);
    scans_ = create_subscription<LaserScan>(
      "scan", rclcpp::SensorDataQoS(), [this](LaserScan::ConstSharedPtr message) {scan_ = message;});
    speeds_ = create_subscription<TwistStamped>(
      "speed", rclcpp::SensorDataQoS(), [this](TwistStamped::ConstSharedPtr message) {speed_ = message;});
    publisher_ = create_publisher<Bool>("brake", 1);
    // A wall timer goes on when /clock stops.
    timer_ = create_wall_timer(std::chrono::milliseconds(50), [this]() {publish();});
  }

private:
  void publish()
  {
    const std::string reason = reason_to_brake();
    Bool message;
    message.data = !reason.empty();
    publisher_->publish(message);
    const std::string kind = reason.substr(0, reason.find(':'));
    if (kind != last_reason_) {
      last_reason_ = kind;
      RCLCPP_INFO(get_logger(), "%s%s", reason.empty() ? "free" : "brake, ", reason.c_str());
    }
  }

  // Returns an empty text only if the vehicle is known to be free.
  std::string reason_to_brake()
  {
    if (!scan_) {return "no scan";}
    if (!speed_) {return "no speed";}
    if (!is_fresh(scan_->header.stamp)) {return "stale scan";}
    if (!is_fresh(speed_->header.stamp)) {return "stale speed";}
    const double speed_mps = std::abs(speed_->twist.linear.x);
    const double stop_m = speed_mps * reaction_s_ + speed_mps * speed_mps / (2 * deceleration_mps2_) +
      bumper_x_m_ + margin_m_;
    if (!(stop_m < scan_->range_max)) {  // also for a speed that is NaN
      return "cannot see far enough: " + std::to_string(stop_m) + " m to stop";
    }
    bool looks_ahead = false;
    // Of beams that are farther apart, the one or two that are nearest to straight ahead.
    const double ahead_rad = std::max(straight_ahead_rad, 0.51 * std::abs(scan_->angle_increment));
    for (std::size_t number = 0; number < scan_->ranges.size(); ++number) {
      double range_m = scan_->ranges[number];
      const double angle = scan_->angle_min + static_cast<double>(number) * scan_->angle_increment;
      if (std::isinf(range_m) && range_m < 0) {range_m = scan_->range_min;}  // REP 117: nearer than range_min
      if (std::abs(angle) <= ahead_rad) {
        looks_ahead = true;
        if (!(range_m > 0)) {return "unknown ahead";}  // NaN, or 0 from scanners that write it for no range
      }
      const double ahead_m = range_m * std::cos(angle), aside_m = range_m * std::sin(angle);
      if (ahead_m > 0 && ahead_m < stop_m && std::abs(aside_m) < half_width_m_) {
        return "blocked: " + std::to_string(ahead_m) + " m ahead, " + std::to_string(stop_m) + " m to stop";
      }
    }
    return looks_ahead ? "" : "unknown ahead";
  }

  bool is_fresh(const builtin_interfaces::msg::Time & stamp)
  {
    const double age_s = (now() - rclcpp::Time(stamp, get_clock()->get_clock_type())).seconds();
    return age_s >= -0.1 && age_s <= max_age_s_;
  }

  static constexpr double straight_ahead_rad = 0.05;  // beams that must be there and not be unknown
  double deceleration_mps2_, reaction_s_, margin_m_, bumper_x_m_, half_width_m_, max_age_s_;
  LaserScan::ConstSharedPtr scan_;
  TwistStamped::ConstSharedPtr speed_;
  std::string last_reason_ = "nothing decided yet";
  rclcpp::Subscription<LaserScan>::SharedPtr scans_;
  rclcpp::Subscription<TwistStamped>::SharedPtr speeds_;
  rclcpp::Publisher<Bool>::SharedPtr publisher_;
  rclcpp::TimerBase::SharedPtr timer_;
};

int main(int argc, char ** argv)
{
  rclcpp::init(argc, argv);
  rclcpp::spin(std::make_shared<EmergencyBrake>());
  rclcpp::shutdown();
  return 0;
}
